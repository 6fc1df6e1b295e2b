#[test]
fn zz() {
    let mut scanner = super::scanner();
    for line in std::fs::read_to_string("/tmp/probe.txt").unwrap().lines() {
        let body = line.replace("\\n", "\n");
        let ct = if body.starts_with('{') || body.starts_with("[{") {
            "application/json"
        } else {
            "text/plain"
        };
        let data = super::scan(&mut scanner, body.as_bytes(), ct);
        println!("{line}");
        for d in data {
            println!(
                "      {} {} {:?} {} x{}",
                d.class, d.location, d.evidence, d.confidence, d.count
            );
        }
    }
}
