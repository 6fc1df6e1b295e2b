//! What a scanner can add, and what ten thousand endpoints weigh: by the structures' own sizes.

use std::mem::size_of;

use super::*;

impl Words {
    fn held_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<(SmolStr, u64)>()
            + self.counts.iter().map(|one| long(&one.0)).sum::<usize>()
    }
}

/// Of a word that does not stand in its place.
fn long(word: &SmolStr) -> usize {
    if word.is_heap_allocated() {
        word.len() + 16
    } else {
        0
    }
}

impl Facts {
    fn held_bytes(&self) -> usize {
        let words = [
            &self.auth,
            &self.tls,
            &self.callers,
            &self.ports,
            &self.apis,
            &self.findings,
            &self.request_media,
            &self.response_media,
        ];
        let histograms = [&self.request_bytes, &self.response_bytes, &self.latency_ns];
        words.iter().map(|words| words.held_bytes()).sum::<usize>()
            + histograms
                .iter()
                .map(|one| one.buckets.capacity() * size_of::<(u16, u64)>())
                .sum::<usize>()
            + self.parameters.capacity() * size_of::<Parameter>()
            + self.data.capacity() * size_of::<DataFact>()
    }
}

impl Inventory {
    /// What it holds on the heap, but for what is of a constant size.
    fn held_bytes(&self) -> usize {
        let trees: usize = self
            .service_list
            .iter()
            .map(|service| service.tree.held_bytes())
            .sum();
        let entries = self
            .entries
            .iter()
            .flatten()
            .map(|entry| entry.facts.held_bytes())
            .sum::<usize>();
        trees
            + entries
            + self.entries.capacity() * size_of::<Option<Entry>>()
            + self.service_list.capacity() * size_of::<Service>()
            + self.services.capacity() * (size_of::<(ServiceKey, u32)>() + 1)
            + self.callers.capacity() * (size_of::<(SocketAddr, SocketAddr, u32)>() + 1)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn word(&mut self) -> String {
        let letters = 3 + self.next(8);
        (0..letters)
            .map(|_| char::from(b'a' + self.next(26) as u8))
            .collect()
    }
}

#[test]
fn a_hundred_thousand_random_paths_and_hosts_add_a_bounded_number() {
    for status in [404, 401, 200] {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut inventory = inventory();
        let mut call = call_from(2, "GET", "/", status);
        for _ in 0..100_000 {
            let mut path = String::new();
            for _ in 0..=random.next(4) {
                path = format!("{path}/{}", random.word());
            }
            call.raw.path = Some(path);
            call.raw.host = format!("{}.{}.example", random.word(), random.word());
            inventory.ended(&call, &[], false, 1);
        }
        let (stats, held) = (inventory.stats(), inventory.held_bytes());
        let endpoints = inventory.endpoints();
        let calls: u64 = endpoints.iter().map(|one| one.facts.calls()).sum();
        println!(
            "{status}: {} endpoints, {} places, {held} bytes",
            stats.endpoints, stats.places
        );
        assert_eq!(calls, 100_000, "{status}");
        let (endpoints_max, places_max) = if status == 404 { (1, 1) } else { (200, 500) };
        assert!(stats.endpoints <= endpoints_max, "{status}: {stats:?}");
        assert!(stats.places <= places_max, "{status}: {stats:?}");
        assert!(held < 1 << 20, "{status}: {held} bytes");
    }
}

#[test]
fn ten_thousand_endpoints_weigh_little() {
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let mut inventory = inventory();
    // Words of APIs, which stay apart; each endpoint is called often, and with whatever makes its facts grow.
    let words = [
        "orders", "items", "users", "notes", "visits", "jobs", "files", "groups", "labels", "reports",
    ];
    let mut call = call_from(2, "GET", "/", 200);
    call.raw.query = "limit=10&offset=20&filter=a&sort=name".into();
    for round in 0..30_000u32 {
        let digits: [usize; 4] = std::array::from_fn(|at| (round as usize / 10usize.pow(at as u32)) % 10);
        call.raw.path = Some(format!(
            "/api/{}/{}/{}/{}/{}",
            words[digits[0]],
            random.next(1 << 30),
            words[digits[1]],
            words[digits[2]],
            words[digits[3]]
        ));
        call.request.body.bytes_total = random.next(1 << 20);
        call.request.body.media_type = "application/json".into();
        if let Some(response) = &mut call.response {
            response.body.bytes_total = random.next(1 << 20);
            response.last_byte_at = KernelTime(call.request.head_at.0 + random.next(1 << 30));
        }
        inventory.ended(&call, &[], false, 1);
    }
    let (stats, held) = (inventory.stats(), inventory.held_bytes());
    println!(
        "{} endpoints, {} places, {held} bytes",
        stats.endpoints, stats.places
    );
    assert!(stats.endpoints > 9_900, "{stats:?}");
    assert!(held / (stats.endpoints as usize) < 4 << 10, "{held} bytes");
}
