//! Processes in network and mount namespaces of their own, with a TLS library of their own, as in a container.

use anyhow::ensure;

use crate::Story;
use crate::every_call::{system_libssl, system_libssl_path};
use crate::harness::certificates::Authority;
use crate::harness::clients::{self, Connections};
use crate::harness::events::{trace_ids, with_ids};
use crate::harness::process::Start;
use crate::harness::world::program;
use crate::harness::{Agent, Place, Result, World, servers};

pub const STORIES: &[Story] = &[(
    "calls_in_namespaces_with_a_library_of_their_own",
    calls_in_namespaces,
)];

/// A network namespace that goes with its owner.
struct Netns<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Netns<'a> {
    fn new(world: &'a World) -> Result<Netns<'a>> {
        let netns = Netns {
            world,
            name: format!("apiward-test-{}", std::process::id()),
        };
        netns.ip(&["netns", "add", &netns.name])?;
        netns.ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    fn ip(&self, args: &[&str]) -> Result<String> {
        Start::new(self.world, Place::Outside, program("ip")?)
            .args(args.iter().copied())
            .run()
    }
}

impl Drop for Netns<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.ip(&["netns", "delete", &self.name]) {
            eprintln!("{error:#}");
        }
    }
}

/// nginx and curl in a network namespace, curl with a copy of libssl mounted over the system's in a mount namespace.
fn calls_in_namespaces() -> Result {
    let world = World::new()?;
    let authority = Authority::new(&world)?;
    let identity = authority.issue(&world, "server", &[])?;
    let netns = Netns::new(&world)?;
    let library = system_libssl_path()?;
    let copy = world.path("libssl-copy.so.3");
    std::fs::copy(&library, &copy)?;
    let mut agent = Agent::start(&world, |_| {})?;
    agent.wait_library(system_libssl()?)?;

    let port = servers::free_port()?;
    let app = servers::app_command(&world, Place::Inside, &["127.0.0.1"], port, Some(&identity))?
        .name("app")
        .through([
            program("ip")?.into_os_string(),
            "netns".into(),
            "exec".into(),
            netns.name.clone().into(),
        ])
        .spawn()?;
    let ids = trace_ids(20);
    let url = format!("https://127.0.0.1:{port}/fhir/Patient/1044");
    let mount = format!(
        "mount --bind {} {} && exec \"$@\"",
        copy.display(),
        library.display()
    );
    let call = |ids: &[String]| -> Result<String> {
        clients::curl_command(
            &world,
            Place::Inside,
            &url,
            Some(&authority.ca),
            ids,
            Connections::Kept,
        )?
        .through([
            program("ip")?.into_os_string(),
            "netns".into(),
            "exec".into(),
            netns.name.clone().into(),
            program("unshare")?.into_os_string(),
            "--mount".into(),
            "/bin/sh".into(),
            "-c".into(),
            mount.clone().into(),
            "sh".into(),
        ])
        .run()
    };
    // The first call finds the server up, and shows the agent the library.
    crate::harness::until("the server answers in its namespace", || {
        Ok(call(&trace_ids(1)).is_ok())
    })?;
    let own = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&copy)?);
    agent.wait_library(own)?;
    call(&ids)?;
    let calls = agent.events.wait_calls(2 * ids.len(), &ids)?;
    drop(app);
    let events = agent.end()?;
    ensure!(
        with_ids(&events.all, &ids).len() == 2 * ids.len(),
        "{} of {} calls were told",
        with_ids(&events.all, &ids).len(),
        2 * ids.len()
    );
    for call in &calls {
        ensure!(
            !call["tls"].is_null()
                && call["response"]["status"] == 200
                && call["remote"]["address"] == "127.0.0.1",
            "a call is wrong: {call:#}"
        );
    }
    Ok(())
}
