use apiward::kernel::{cgroup::Cgroup, load};
use apiward_common::record::*;
fn main() {
    let cg = Cgroup::open(std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap();
    let t = std::time::Instant::now();
    let mut l = match load::load(&load::Options {
        scope: load::Scope {
            cgroups: vec![cg],
            ..Default::default()
        },
        ring_bytes: 16 << 20,
        operation_bytes_max: 128 << 10,
    }) {
        Ok(l) => l,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    };
    eprintln!("{:?} {:#?}", t.elapsed(), l.capabilities);
    let end = std::time::Instant::now()
        + std::time::Duration::from_secs(std::env::args().nth(2).unwrap().parse().unwrap());
    while std::time::Instant::now() < end {
        l.ring.drain(1000, |r| {
            let mut rd = Reader::new(r);
            let h = Header::read(&mut rd).unwrap();
            print!(
                "{} pid {} {} seq {} ",
                h.kind,
                h.pid,
                String::from_utf8_lossy(&h.comm).trim_end_matches('\0'),
                h.sequence
            );
            match h.kind {
                kind::DATA => {
                    let d = Data::read(&mut rd).unwrap();
                    println!(
                        "{:?} {:?}",
                        d,
                        String::from_utf8_lossy(&rd.take(h.payload_bytes.min(60) as usize).unwrap())
                    )
                }
                kind::FLOW_OPEN => println!("{:?}", FlowOpen::read(&mut rd).unwrap()),
                kind::FLOW_CLOSE => println!("{:?}", FlowClose::read(&mut rd).unwrap()),
                kind::EXEC => {
                    let d = ProcessChange::read(&mut rd).unwrap();
                    println!(
                        "{:?} {:?}",
                        d,
                        String::from_utf8_lossy(&rd.take(h.payload_bytes as usize).unwrap())
                    )
                }
                kind::MAPPED => {
                    let d = Mapped::read(&mut rd).unwrap();
                    println!(
                        "{:?} {:?}",
                        d,
                        String::from_utf8_lossy(&rd.take(h.payload_bytes as usize).unwrap())
                    )
                }
                _ => println!(),
            }
        });
        l.ring.wait(
            std::time::Duration::from_millis(1),
            std::time::Duration::from_millis(200),
        );
    }
    eprintln!(
        "{:?}",
        (
            l.maps.counters().sequence,
            l.maps.counters().dropped_records,
            l.maps.counters().no_cookie
        )
    );
}
