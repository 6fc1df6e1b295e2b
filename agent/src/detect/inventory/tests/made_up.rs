//! APIs that are made up as real ones are shaped, called in random order with numbers, codes, tokens, names and slugs:
//! every operation is one endpoint, and no endpoint is two operations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;

/// Method and path; a value's kind stands in braces.
const OPERATIONS: &[&str] = &[
    "GET /api/v2/frobs",
    "POST /api/v2/frobs",
    "GET /api/v2/frobs/{number}",
    "PUT /api/v2/frobs/{number}",
    "DELETE /api/v2/frobs/{number}",
    "GET /api/v2/frobs/{number}/blips",
    "POST /api/v2/frobs/{number}/blips",
    "POST /api/v2/frobs/{number}/unzorkify",
    "GET /api/v2/gizmos",
    "GET /api/v2/gizmos/{uuid}",
    "GET /api/v2/gizmos/{uuid}/quuxes/{code}",
    "GET /api/v2/vaults/{owner}/{slug}",
    "DELETE /api/v2/vaults/{owner}/{slug}",
    "GET /api/v2/vaults/{owner}/{slug}/plinths",
    "POST /api/v2/vaults/{owner}/{slug}/plinths",
    "GET /api/v2/vaults/{owner}/{slug}/plinths/{number}",
    "GET /api/v2/vaults/{owner}/{slug}/grommets",
    "GET /api/v2/vaults/{owner}/{slug}/sprockets/{token}",
    "GET /api/v2/wards/{slug}/beds",
    "GET /api/v2/wards/{slug}/rounds",
    "PUT /api/v2/wards/{slug}/rounds/{date}",
    "GET /api/v2/users/{owner}",
    "PATCH /api/v2/users/{owner}",
    "GET /api/v2/users/me",
    "GET /api/v2/tallies/hourly_load",
    "GET /api/v2/tallies/memoryTotal",
    "POST /api/v2/wibblify",
    "GET /api/v2/tokens/{token}",
    "DELETE /api/v2/tokens/{token}",
    "GET /api/v2/rates/{currency}",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// The `which`th value of a kind; the same every time.
    fn value(kind: &str, which: u64) -> String {
        let mut dice = Dice(which * 7_919 + kind.len() as u64);
        dice.roll(2);
        let mut letters = |count: usize, of: &[u8]| -> String {
            (0..count)
                .map(|_| char::from(of[dice.roll(of.len() as u64) as usize]))
                .collect()
        };
        let mixed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        match kind {
            "number" => (which * 37 + 5).to_string(),
            "uuid" => {
                let hex = |letters: &mut dyn FnMut(usize, &[u8]) -> String, count| {
                    letters(count, b"0123456789abcdef")
                };
                format!(
                    "{}-{}-4{}-8{}-{}",
                    hex(&mut letters, 8),
                    hex(&mut letters, 4),
                    hex(&mut letters, 3),
                    hex(&mut letters, 3),
                    hex(&mut letters, 12)
                )
            }
            "code" => format!("{}-{}", letters(2, b"ABCDEFGHKLMNPQRSTUVWXZ"), 1_000 + which * 13),
            "token" => letters(if which.is_multiple_of(2) { 11 } else { 22 }, mixed),
            "date" => format!("2024-0{}-1{}", 1 + which % 9, which % 10),
            "currency" => letters(3, b"BCDEGHJKLNPRTUZ"),
            "owner" => PEOPLE[which as usize % PEOPLE.len()].to_owned(),
            _ => format!(
                "{}-{}",
                PEOPLE[which as usize % 7],
                PEOPLE[7 + which as usize % 9]
            ),
        }
    }
}

#[test]
fn every_operation_is_one_endpoint() {
    let (mut right, mut operations, mut endpoints, mut wrong) = (0, 0, 0, Vec::new());
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let mut inventory = inventory();
        let mut calls: Vec<(usize, String)> = Vec::new();
        for _ in 0..OPERATIONS.len() * 40 {
            // Some are called much more often than others, and so are some values.
            let sides = 1 + dice.roll(OPERATIONS.len() as u64);
            let operation = dice.roll(sides) as usize;
            let mut path = String::new();
            for part in OPERATIONS[operation].split(['{', '}']).enumerate() {
                match part {
                    (at, text) if at % 2 == 0 => path.push_str(text),
                    (_, kind) => {
                        let which = dice.roll(12);
                        let which = dice.roll(which + 1);
                        path.push_str(&Dice::value(kind, which));
                    }
                }
            }
            calls.push((operation, path));
        }
        for (_, call) in &calls {
            let (method, path) = call.split_once(' ').expect("a method");
            see(&mut inventory, method, path, 200);
        }
        let mut ends: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        let mut owners: HashMap<u64, BTreeSet<usize>> = HashMap::new();
        for (operation, call) in &calls {
            let (method, path) = call.split_once(' ').expect("a method");
            let id = inventory
                .endpoint_of(&call_from(2, method, path, 200))
                .unwrap_or_default();
            ends.entry(*operation).or_default().insert(id);
            owners.entry(id).or_default().insert(*operation);
        }
        // What persons are called is not shown, however often.
        for endpoint in inventory.endpoints() {
            let mut words = endpoint.path.split(['/', '-']);
            assert!(words.all(|word| !PEOPLE.contains(&word)), "{}", endpoint.path);
        }
        operations += ends.len();
        endpoints += inventory.endpoints().len();
        for (operation, ids) in ends {
            match ids.len() == 1 && ids.iter().all(|id| *id != 0 && owners[id].len() == 1) {
                true => right += 1,
                false => wrong.push(format!("{} is {}", OPERATIONS[operation], ids.len())),
            }
        }
    }
    let (exact, each) = (
        f64::from(right) / operations as f64,
        endpoints as f64 / operations as f64,
    );
    println!("operations that are one endpoint: {exact:.3} of {operations}; {each:.3} endpoints each");
    assert!(exact >= 0.98 && each <= 1.05, "{exact} {each} {wrong:?}");
}
