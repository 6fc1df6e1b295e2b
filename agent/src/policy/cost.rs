//! What an expression may cost for one call, at worst, told from its text.
//!
//! Policies come from people who are trusted, and from files that were generated; one careless loop in a loop must not
//! cost every call milliseconds. An evaluation cannot be interrupted, so what might take too long is refused when it
//! is loaded. The estimate is an upper bound under the default limits of capture: a step is about what an operator
//! costs, and a KiB of text that is looked at is another.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::model::{FIELDS, Kind};

/// Most steps for one call: a few milliseconds.
pub const COST_MAX: u64 = 100_000;
/// Most bytes that it may hold at once.
pub const HELD_BYTES_MAX: u64 = 4 << 20;
/// Longest pattern of `matches`: it is compiled for every call.
pub const PATTERN_BYTES_MAX: usize = 128;

/// A head has no more headers (`decode`), and a text of it is no longer.
const HEADERS: u64 = 256;
const HEAD_BYTES: u64 = 8 << 10;
const BODY_BYTES: u64 = 64 << 10;
const ANOMALIES: u64 = 32;
const FINDINGS: u64 = 16;
/// Compiling a pattern.
const PATTERN_STEPS: u64 = 500;

/// Upper bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// To evaluate it.
    pub steps: u64,
    /// Elements of the result, if it is a list or a map.
    items: u64,
    /// Bytes of the result.
    bytes: u64,
    /// Bytes of the largest value on the way there.
    pub held_bytes: u64,
}

impl Cost {
    fn holding(self, held_bytes: u64) -> Cost {
        Cost {
            held_bytes: self.held_bytes.max(held_bytes),
            ..self
        }
    }

    fn new(steps: u64, items: u64, bytes: u64) -> Cost {
        Cost {
            steps,
            items,
            bytes,
            held_bytes: bytes,
        }
    }
}

/// The cost of a parsed expression. Its depth was bounded before.
pub(super) fn of(node: &IdedExpr) -> Cost {
    match &node.expr {
        Expr::Unspecified => Cost::default(),
        Expr::Literal(LiteralValue::String(text)) => Cost::new(1, 0, text.inner().len() as u64),
        Expr::Literal(_) => Cost::new(1, 0, 8),
        // A name that a loop has bound: an element, of a header's size at most.
        Expr::Ident(_) => field(node).unwrap_or(Cost::new(1, 0, HEAD_BYTES)),
        Expr::Select(select) => field(node).unwrap_or_else(|| {
            let of = of(&select.operand);
            Cost::new(of.steps.saturating_add(1), 0, HEAD_BYTES.min(of.bytes.max(64)))
        }),
        Expr::Call(call) => {
            let parts = call.target.iter().map(|target| &**target).chain(&call.args);
            let parts: Vec<Cost> = parts.map(of).collect();
            let held = parts.iter().map(|part| part.held_bytes).max();
            operator(&call.func_name, &parts).holding(held.unwrap_or_default())
        }
        Expr::List(list) => together(list.elements.iter()),
        Expr::Map(map) => together(map.entries.iter().flat_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
            EntryExpr::StructField(field) => vec![&field.value],
        })),
        Expr::Struct(built) => together(built.entries.iter().flat_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
            EntryExpr::StructField(field) => vec![&field.value],
        })),
        Expr::Comprehension(walk) => {
            let range = of(&walk.iter_range);
            let start = of(&walk.accu_init);
            let turn = of(&walk.loop_step);
            let step = of(&walk.loop_cond).steps.saturating_add(turn.steps);
            let result = of(&walk.result);
            // A list that grows: each turn adds what the step makes, at most.
            let grown = turn.bytes.saturating_mul(range.items);
            Cost::new(
                range
                    .steps
                    .saturating_add(start.steps)
                    .saturating_add(range.items.saturating_mul(step))
                    .saturating_add(result.steps),
                range.items,
                if is_list(&walk.accu_init) { grown } else { 8 },
            )
            .holding(range.held_bytes.max(turn.held_bytes))
        }
    }
}

fn is_list(node: &IdedExpr) -> bool {
    matches!(node.expr, Expr::List(_))
}

fn together<'e>(parts: impl Iterator<Item = &'e IdedExpr>) -> Cost {
    parts.map(of).fold(Cost::new(1, 0, 0), |sum, part| {
        Cost::new(
            sum.steps.saturating_add(part.steps),
            sum.items + 1,
            sum.bytes.saturating_add(part.bytes),
        )
        .holding(sum.held_bytes.max(part.held_bytes))
    })
}

fn operator(name: &str, parts: &[Cost]) -> Cost {
    let steps = parts
        .iter()
        .fold(1u64, |sum, part| sum.saturating_add(part.steps));
    let bytes = parts
        .iter()
        .fold(0u64, |sum, part| sum.saturating_add(part.bytes));
    let items = parts.iter().map(|part| part.items).max().unwrap_or_default();
    // Whatever it does, it may look at all of it.
    let steps = steps.saturating_add(bytes / 1024);
    match name {
        operators::ADD => {
            let items = parts
                .iter()
                .fold(0u64, |sum, part| sum.saturating_add(part.items));
            Cost::new(steps, items, bytes)
        }
        operators::CONDITIONAL => Cost::new(steps, items, bytes),
        operators::INDEX | operators::OPT_INDEX => Cost::new(steps, 0, bytes.min(HEAD_BYTES)),
        "matches" => Cost::new(steps.saturating_add(PATTERN_STEPS), 0, 8),
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::EQUALS
        | operators::NOT_EQUALS
        | operators::IN
        | "contains"
        | "startsWith"
        | "endsWith"
        | "size" => Cost::new(steps, 0, 8),
        _ => Cost::new(steps, items, bytes),
    }
}

/// A field of the call, if the whole node names one.
fn field(node: &IdedExpr) -> Option<Cost> {
    let name = super::expression::chain(node)?.join(".");
    let field = FIELDS.iter().find(|field| field.name == name)?;
    Some(match field.kind {
        Kind::Text if name.ends_with("body.text") => Cost::new(1 + BODY_BYTES / 1024, 0, BODY_BYTES),
        Kind::Text => Cost::new(1, 0, HEAD_BYTES),
        Kind::Int | Kind::Bool => Cost::new(1, 0, 8),
        Kind::List => Cost::new(ANOMALIES, ANOMALIES, ANOMALIES * 32),
        // It is put together whenever it is named; of a head there is no more than its bytes.
        Kind::Map => Cost::new(HEADERS, HEADERS, BODY_BYTES),
        Kind::Findings => Cost::new(FINDINGS * 4, FINDINGS, FINDINGS * 256),
    })
}

#[cfg(test)]
mod tests {
    use cel::Env;

    use super::*;

    #[test]
    fn loops_multiply_and_texts_add_up() {
        let mut table = String::new();
        for when in [
            "call.request.method == 'GET'",
            "call.request.body.text.contains('x')",
            "call.request.path.matches('^/a')",
            "call.request.headers['x'] == 'y'",
            "call.request.headers.exists(h, h == 'x')",
            "call.request.headers.exists(h, call.request.headers[h] == 'x')",
            "call.request.headers.exists(h, findings.exists(f, f.kind == h))",
            "call.request.headers.exists(a, call.request.headers.exists(b, a == b))",
            "call.request.headers.exists(a, a.matches('x'))",
            "call.request.headers.map(a, call.request.body.text).size() > 1",
            "(call.request.body.text + call.request.body.text).size() > 1",
        ] {
            let program = Env::stdlib().compile(when).expect(when);
            let cost = of(program.expression());
            let fits = cost.steps <= COST_MAX && cost.held_bytes <= HELD_BYTES_MAX;
            table.push_str(&format!(
                "{when}: {} steps, {} bytes{}\n",
                cost.steps,
                cost.held_bytes,
                if fits { "" } else { ": too much" }
            ));
        }
        insta::assert_snapshot!(table, @r#"
        call.request.method == 'GET': 11 steps, 8192 bytes
        call.request.body.text.contains('x'): 131 steps, 65536 bytes
        call.request.path.matches('^/a'): 511 steps, 8192 bytes
        call.request.headers['x'] == 'y': 332 steps, 65536 bytes
        call.request.headers.exists(h, h == 'x'): 8450 steps, 65536 bytes
        call.request.headers.exists(h, call.request.headers[h] == 'x'): 92674 steps, 65536 bytes
        call.request.headers.exists(h, findings.exists(f, f.kind == h)): 190466 steps, 65536 bytes: too much
        call.request.headers.exists(a, call.request.headers.exists(b, a == b)): 2693122 steps, 65536 bytes: too much
        call.request.headers.exists(a, a.matches('x')): 136450 steps, 65536 bytes: too much
        call.request.headers.map(a, call.request.body.text).size() > 1: 54789 steps, 18874368 bytes: too much
        (call.request.body.text + call.request.body.text).size() > 1: 390 steps, 131072 bytes
        "#);
    }
}
