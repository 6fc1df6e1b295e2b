//! Two network namespaces and a cable between them: a server on the one side, and whoever can be on the other, out of
//! the agent's reach. A third one in between loses, doubles and reorders what passes.

use std::ffi::OsString;

use anyhow::{Context, bail};
use serde_json::Value;

use super::process::Start;
use super::world::program;
use super::{Place, Process, Result, World};

const OFFLOAD: &str = include_str!("../assets/offload.py");
const LOSSY: &str = include_str!("../assets/lossy.py");

/// Addresses of the server's side and of the other.
pub const SERVER: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub const PEER: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// One of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Server,
    Peer,
}

/// Both namespaces; they go with their owner.
pub struct Veth<'a> {
    world: &'a World,
    server: String,
    peer: String,
    between: Option<Process>,
}

impl<'a> Veth<'a> {
    /// The peer's addresses are nobody's: its kernel answers nothing, and a program can be all of TCP itself.
    pub fn raw(world: &'a World, gro: bool) -> Result<Veth<'a>> {
        let veth = Veth::new(world)?;
        let (server, peer) = (veth.server.clone(), veth.peer.clone());
        veth.ip(&[
            "link", "add", "wire", "netns", &server, "mtu", "1500", "type", "veth", "peer", "name", "wire",
            "netns", &peer,
        ])?;
        veth.addresses(End::Server, "wire", SERVER)?;
        veth.write(End::Peer, "/proc/sys/net/ipv6/conf/wire/disable_ipv6", "1")?;
        for end in [End::Server, End::Peer] {
            veth.ip(&["-n", veth.name(end), "link", "set", "wire", "up"])?;
        }
        let mac = veth.mac(End::Peer)?;
        for address in PEER {
            veth.ip(&[
                "-n", &server, "neigh", "add", address, "dev", "wire", "lladdr", &mac,
            ])?;
        }
        // With cookies, for clients and servers (RFC 7413).
        veth.write(End::Server, "/proc/sys/net/ipv4/tcp_fastopen", "3")?;
        if gro {
            veth.offload(End::Server, "gro")?;
            // What follows within that time (ns) is put to what waits.
            veth.write(End::Server, "/sys/class/net/wire/gro_flush_timeout", "2000000")?;
        }
        Ok(veth)
    }

    /// Both ends are ordinary, and what passes between them goes through a program that spoils it, by `seed`: so many
    /// packets of 1,000 are lost, doubled, held back.
    pub fn lossy(world: &'a World, seed: u64, spoiled: [u32; 3]) -> Result<Veth<'a>> {
        let mut veth = Veth::new(world)?;
        for (end, addresses) in [(End::Server, SERVER), (End::Peer, PEER)] {
            let other = between(end);
            let name = veth.name(end).to_owned();
            veth.ip(&[
                "link", "add", "wire", "netns", &name, "mtu", "1500", "type", "veth", "peer", "name", &other,
            ])?;
            veth.addresses(end, "wire", addresses)?;
            veth.ip(&["-n", &name, "link", "set", "wire", "up"])?;
            veth.offload(end, "plain")?;
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{other}/disable_ipv6"), "1")
                .context("IPv6 is switched off between the ends")?;
            veth.ip(&["link", "set", &other, "up"])?;
        }
        let script = world.write("lossy.py", LOSSY)?;
        let mut between = Start::new(world, Place::Outside, program("python3")?)
            .name("lossy")
            .arg("-I")
            .arg(script)
            .args([between(End::Server), between(End::Peer), seed.to_string()])
            .args(spoiled.map(|share| share.to_string()))
            .spawn()?;
        between.wait_until("the ends are connected", || {
            Ok(Start::new(world, Place::Outside, program("ip")?)
                .name("ping")
                .args(["netns", "exec", &veth.peer, "python3", "-c"])
                .arg(format!(
                    "import socket; socket.create_connection(('{}', 9), 2)",
                    SERVER[0]
                ))
                .run()
                .is_err_and(|error| error.to_string().contains("refused")))
        })?;
        veth.between = Some(between);
        Ok(veth)
    }

    fn new(world: &'a World) -> Result<Veth<'a>> {
        let name = |end: &str| format!("apiward-test-{end}-{}", std::process::id());
        let veth = Veth {
            world,
            server: name("server"),
            peer: name("peer"),
            between: None,
        };
        for end in [End::Server, End::Peer] {
            veth.ip(&["netns", "add", veth.name(end)])?;
            veth.ip(&["-n", veth.name(end), "link", "set", "lo", "up"])?;
        }
        Ok(veth)
    }

    fn name(&self, end: End) -> &str {
        match end {
            End::Server => &self.server,
            End::Peer => &self.peer,
        }
    }

    /// What is put before a program to run it at an end.
    pub fn at(&self, end: End) -> Result<[OsString; 4]> {
        Ok([
            program("ip")?.into_os_string(),
            "netns".into(),
            "exec".into(),
            self.name(end).into(),
        ])
    }

    /// The hardware address of an end.
    pub fn mac(&self, end: End) -> Result<String> {
        let text = self.ip(&["-n", self.name(end), "-j", "link", "show", "wire"])?;
        let links: Value = serde_json::from_str(&text)?;
        let address = links[0]["address"].as_str().context("the cable has an address")?;
        Ok(address.to_owned())
    }

    fn addresses(&self, end: End, interface: &str, [four, six]: [&str; 2]) -> Result {
        let name = self.name(end);
        self.ip(&["-n", name, "addr", "add", &format!("{four}/24"), "dev", interface])?;
        self.ip(&[
            "-n",
            name,
            "addr",
            "add",
            &format!("{six}/64"),
            "dev",
            interface,
            "nodad",
        ])?;
        Ok(())
    }

    fn write(&self, end: End, path: &str, text: &str) -> Result {
        Start::new(self.world, Place::Outside, "/bin/sh")
            .name("set")
            .args(["-c", &format!("echo {text} > {path}")])
            .through(self.at(end)?)
            .run()
            .map(drop)
    }

    /// Packets that the server's interface has taken, and those that came to its IP after that: fewer, if some were put
    /// together on the way.
    pub fn taken(&self) -> Result<(u64, u64)> {
        const SHOWN: &str = "cat /sys/class/net/wire/statistics/rx_packets; \
            awk '$1 == \"Ip:\" { if (n++) print $3 }' /proc/net/snmp; \
            awk '$1 == \"Ip6InReceives\" { print $2 }' /proc/net/snmp6";
        let shown = Start::new(self.world, Place::Outside, "/bin/sh")
            .name("taken")
            .args(["-c", SHOWN])
            .through(self.at(End::Server)?)
            .run()?;
        let numbers: Vec<u64> = shown
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect();
        let [wire, four, six] = numbers[..] else {
            bail!("the server's counters cannot be read: {shown}");
        };
        Ok((wire, four + six))
    }

    fn offload(&self, end: End, how: &str) -> Result {
        let script = self.world.write("offload.py", OFFLOAD)?;
        Start::new(self.world, Place::Outside, program("python3")?)
            .name("offload")
            .arg(script)
            .args(["wire", how])
            .through(self.at(end)?)
            .run()
            .map(drop)
    }

    fn ip(&self, args: &[&str]) -> Result<String> {
        Start::new(self.world, Place::Outside, program("ip")?)
            .args(args.iter().copied())
            .run()
    }
}

/// The interface between the namespaces that leads to this end: no more than 15 bytes, also with a long process id.
fn between(end: End) -> String {
    let end = if end == End::Server { "s" } else { "p" };
    format!("aw-{end}-{}", std::process::id())
}

impl Drop for Veth<'_> {
    fn drop(&mut self) {
        drop(self.between.take());
        for end in [End::Server, End::Peer] {
            if let Err(error) = self.ip(&["netns", "delete", self.name(end)]) {
                eprintln!("{error:#}");
            }
        }
    }
}
