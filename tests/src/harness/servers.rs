//! Real servers: nginx in clear and with TLS before a Python application, on loopback or on an address of a network
//! namespace of the test's own.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context;

use super::certificates::Identity;
use super::process::Start;
use super::world::program;
use super::{Place, Process, Result, World};

const APP: &str = include_str!("../assets/app.py");

/// A port that was free a moment ago, on both loopback addresses.
pub fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if TcpListener::bind(("::1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free on loopback")
}

/// Whether something listens there.
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
}

/// A server with its port.
#[derive(Debug)]
pub struct Server {
    pub process: Process,
    pub port: u16,
}

/// The application on both loopback addresses.
pub fn app(world: &World, place: Place, tls: Option<&Identity>) -> Result<Server> {
    let port = free_port()?;
    let name = if tls.is_some() { "app-tls" } else { "app" };
    let mut process = app_command(world, place, &["127.0.0.1", "::1"], port, tls)?
        .name(name)
        .spawn()?;
    process.wait_until("the application accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()) && accepts((std::net::Ipv6Addr::LOCALHOST, port).into()))
    })?;
    Ok(Server { process, port })
}

/// The application in TLS, which tells what it handles.
pub fn telling_app(world: &World, place: Place, identity: &Identity) -> Result<Server> {
    let port = free_port()?;
    let mut process = app_command(world, place, &["127.0.0.1"], port, Some(identity))?
        .arg("--log")
        .name("app-tls")
        .spawn()?;
    process.wait_until("the application accepts", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    Ok(Server { process, port })
}

/// A server that calls the TLS library itself, in this way of its own.
pub fn library_app(world: &World, place: Place, way: &str, identity: &Identity) -> Result<Server> {
    let port = free_port()?;
    let script = world.write("tls_calls.py", include_str!("../assets/tls_calls.py"))?;
    let mut process = Start::new(world, place, program("python3")?)
        .name(way)
        .arg(script)
        .args([&port.to_string(), way])
        .args([&identity.certificate, &identity.key])
        .spawn()?;
    process.wait_until("the server listens", || {
        Ok(accepts(([127, 0, 0, 1], port).into()))
    })?;
    Ok(Server { process, port })
}

/// How the application is started.
pub fn app_command<'a>(
    world: &'a World,
    place: Place,
    addresses: &[&str],
    port: u16,
    tls: Option<&Identity>,
) -> Result<Start<'a>> {
    let script = world.write("app.py", APP)?;
    let mut start = Start::new(world, place, program("python3")?)
        .arg("-I")
        .arg(script);
    for address in addresses {
        start = start.arg("--listen").arg(format!("{address},{port}"));
    }
    if let Some(tls) = tls {
        start = start.arg("--tls").arg(&tls.certificate).arg(&tls.key);
    }
    Ok(start)
}

/// nginx before the application, with two workers.
#[derive(Debug)]
pub struct Nginx {
    pub process: Process,
    pub clear: u16,
    pub tls: u16,
}

impl Nginx {
    /// Ids of its workers, which do all the work.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let pid = self.process.pid();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .context("the kernel tells no children")?;
        Ok(text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect())
    }
}

/// Starts nginx on both loopback addresses; what it does not serve itself goes to `app`.
pub fn nginx(world: &World, place: Place, app: u16, identity: &Identity) -> Result<Nginx> {
    nginx_with(world, place, app, identity, "")
}

/// As [`nginx`], with more lines in the `server` block.
pub fn nginx_with(world: &World, place: Place, app: u16, identity: &Identity, more: &str) -> Result<Nginx> {
    let (clear, tls) = (free_port()?, free_port()?);
    let folder = world.folder().display();
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    let text = format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
           access_log off; client_max_body_size 32m; keepalive_requests 100000;\n\
           client_body_temp_path {folder}/ng-body; proxy_temp_path {folder}/ng-proxy;\n\
           fastcgi_temp_path {folder}/ng-f; uwsgi_temp_path {folder}/ng-u; scgi_temp_path {folder}/ng-s;\n\
           upstream app {{ server 127.0.0.1:{app}; keepalive 16; keepalive_requests 100000; }}\n\
           server {{\n\
             listen 127.0.0.1:{clear}; listen [::1]:{clear};\n\
             listen 127.0.0.1:{tls} ssl; listen [::1]:{tls} ssl;\n\
             ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             {more}\n\
             location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n\
           }}\n\
         }}\n"
    );
    let conf = world.write("nginx.conf", text)?;
    let user = "user root;";
    let mut process = Start::new(world, place, program("nginx")?)
        .name("nginx")
        .args(["-e", "stderr", "-g", user, "-c"])
        .arg(conf)
        .spawn()?;
    process.wait_until("nginx accepts", || {
        let ports = [clear, tls];
        Ok(ports.iter().all(|&port| {
            accepts((IpAddr::from([127, 0, 0, 1]), port).into())
                && accepts((IpAddr::from(std::net::Ipv6Addr::LOCALHOST), port).into())
        }))
    })?;
    Ok(Nginx { process, clear, tls })
}
