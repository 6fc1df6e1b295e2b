//! The integration tests: the real agent and collector, driven with real software in a cgroup of their own.
//!
//! One binary and one test at a time, because one agent runs on a host. A test is a story: a function that makes its
//! world, does something in it as a user would, and looks at what came out of the agent. `cargo xtask test` and the
//! kernels of `cargo xtask vm` run the same binary.
//!
//! A test that needs what a kernel lacks prints `SKIPPED name: needs FEATURE`; see `harness/skip.rs`.

use libtest_mimic::{Arguments, Failed, Trial};

mod capabilities;
mod containers;
mod delivery;
mod enforce;
mod every_call;
mod framing;
mod gate;
mod gate_edges;
mod gate_tls;
mod gate_tricks;
mod gate_wire;
mod harness;
mod healthcare;
mod http2;
mod inventory;
mod keep;
mod lives;
mod operator;
mod outlived;
mod protocols;
mod prove;
mod transport;
mod ways;

use harness::Result;
use harness::skip::Skipped;

/// A story under its name.
type Story = (&'static str, fn() -> Result);

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if !arguments.list && !rustix::process::geteuid().is_root() {
        eprintln!(
            "the integration tests need root: they load kernel programs and make cgroups and network namespaces; run them with sudo"
        );
        std::process::exit(1);
    }
    if let Err(error) = end_on_signals() {
        eprintln!("signals cannot be handled: {error}");
    }
    let trials = [
        every_call::STORIES,
        lives::STORIES,
        framing::STORIES,
        http2::STORIES,
        protocols::STORIES,
        ways::STORIES,
        enforce::STORIES,
        gate::STORIES,
        capabilities::STORIES,
        gate_tls::STORIES,
        gate_tricks::STORIES,
        keep::STORIES,
        outlived::STORIES,
        gate_edges::STORIES,
        gate_wire::STORIES,
        delivery::STORIES,
        containers::STORIES,
        inventory::STORIES,
        operator::STORIES,
        prove::STORIES,
        healthcare::STORIES,
        transport::STORIES,
    ]
    .concat()
    .into_iter()
    .map(trial)
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial((name, story): Story) -> Trial {
    Trial::test(name, move || match story() {
        Ok(()) => Ok(()),
        Err(error) if error.is::<Skipped>() => {
            println!("SKIPPED {name}: {error}");
            Ok(())
        }
        Err(error) => Err(Failed::from(format!("{error:#}"))),
    })
}

/// Told to end, this process takes everything it started with it: it is all in one cgroup.
fn end_on_signals() -> Result {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().spawn(move || {
        if signals.forever().next().is_some() {
            if let Ok(root) = harness::cgroup::mount_point() {
                let own = root.join(format!("{}{}", harness::world::PREFIX, std::process::id()));
                let _ = std::fs::write(own.join("cgroup.kill"), "1");
            }
            std::process::exit(130);
        }
    })?;
    Ok(())
}
