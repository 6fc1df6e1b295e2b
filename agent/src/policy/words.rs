//! Comparisons in an expression that no call can satisfy: with a word that a field never has.
//!
//! They compile, run, and never hold, so a rule that rests on one is silently dead. Found in the parsed text, by what
//! the fields can hold; what is not known here is left alone.

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::document::{AUTHS, DIRECTIONS};
use super::expression::chain;
use crate::detect::KINDS;
use crate::yaml::{nearest, one_of, quote};

const STATES: &[&str] = &["answered", "closed", "reset", "gap", "timed-out", "switched"];
const SEVERITIES: &[&str] = &["info", "low", "medium", "high"];
/// Fields that hold lower case only.
const LOWER_CASE: &[&str] = &[
    "call.request.host",
    "call.request.body.media_type",
    "call.response.body.media_type",
];
const HEADERS: &[&str] = &["call.request.headers", "call.response.headers"];

/// What is wrong, and what to write instead, once for each such comparison.
pub(super) fn never(node: &IdedExpr) -> Vec<(String, String)> {
    let mut found = Vec::new();
    visit(node, &mut found);
    found
}

fn visit(node: &IdedExpr, found: &mut Vec<(String, String)>) {
    match &node.expr {
        Expr::Call(call) => {
            let parts: Vec<&IdedExpr> = call
                .target
                .iter()
                .map(|target| &**target)
                .chain(&call.args)
                .collect();
            if let [left, right] = parts[..] {
                found.extend(comparison(&call.func_name, left, right));
            }
            parts.into_iter().for_each(|part| visit(part, found));
        }
        Expr::Select(select) => {
            // `has(call.request.headers.Host)`, `call.request.headers.Host`.
            if is_any(&select.operand, HEADERS) {
                found.extend(header(&select.field));
            }
            visit(&select.operand, found);
        }
        Expr::List(list) => list.elements.iter().for_each(|part| visit(part, found)),
        Expr::Comprehension(walk) => {
            for part in [&walk.iter_range, &walk.loop_cond, &walk.loop_step, &walk.result] {
                visit(part, found);
            }
        }
        _ => {}
    }
}

fn comparison(operator: &str, left: &IdedExpr, right: &IdedExpr) -> Option<(String, String)> {
    match operator {
        operators::EQUALS => match (text(left), text(right)) {
            (None, Some(word)) => equal(left, word),
            (Some(word), None) => equal(right, word),
            _ => None,
        },
        operators::IN => match (&right.expr, text(left)) {
            (Expr::List(list), _) => list
                .elements
                .iter()
                .filter_map(text)
                .find_map(|word| equal(left, word)),
            (_, Some(name)) if is_any(right, HEADERS) => header(name),
            _ => None,
        },
        operators::INDEX if is_any(left, HEADERS) => header(text(right)?),
        "startsWith" if is_any(left, &["call.request.path"]) => path(text(right)?),
        _ => None,
    }
}

/// A field that is compared with a word.
fn equal(field: &IdedExpr, word: &str) -> Option<(String, String)> {
    let names = chain(field)?;
    let name = names.join(".");
    let words: Vec<&str> = match name.as_str() {
        "call.direction" => DIRECTIONS.iter().map(|(name, _)| *name).collect(),
        "call.request.auth" => AUTHS.iter().map(|(name, _)| *name).collect(),
        "call.state" => STATES.to_vec(),
        "call.third_party.agreement" if !word.is_empty() => vec!["yes", "no", "expired", "unlisted"],
        "call.request.path" if !word.is_empty() => return path(word),
        // An element of `findings`: nothing else that a loop can bind has these.
        _ if names.len() == 2 && names[0] != "call" && names[1] == "kind" => KINDS.to_vec(),
        _ if names.len() == 2 && names[0] != "call" && names[1] == "severity" => SEVERITIES.to_vec(),
        _ if LOWER_CASE.contains(&name.as_str()) && word.chars().any(char::is_uppercase) => {
            return Some((
                format!("`{name}` is never {}: it is in lower case", quote(word)),
                format!("write {}", quote(&word.to_lowercase())),
            ));
        }
        _ => return None,
    };
    if words.contains(&word) {
        return None;
    }
    let instead = match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write {}", one_of(&words)),
    };
    Some((format!("`{name}` is never {}", quote(word)), instead))
}

fn header(name: &str) -> Option<(String, String)> {
    name.chars().any(char::is_uppercase).then(|| {
        (
            format!("no header is called {}: names are in lower case", quote(name)),
            format!("write {}", quote(&name.to_lowercase())),
        )
    })
}

fn path(text: &str) -> Option<(String, String)> {
    (!text.starts_with('/') && !text.is_empty()).then(|| {
        (
            format!("no path starts like {}", quote(text)),
            format!("start it with a slash: {}", quote(&format!("/{text}"))),
        )
    })
}

fn text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn is_any(node: &IdedExpr, names: &[&str]) -> bool {
    chain(node).is_some_and(|chain| names.contains(&chain.join(".").as_str()))
}

/// Does it name this field anywhere?
pub(super) fn reads(node: &IdedExpr, wanted: &str) -> bool {
    if is_any(node, &[wanted]) {
        return true;
    }
    match &node.expr {
        Expr::Call(call) => call
            .target
            .iter()
            .map(|target| &**target)
            .chain(&call.args)
            .any(|part| reads(part, wanted)),
        Expr::Select(select) => reads(&select.operand, wanted),
        Expr::List(list) => list.elements.iter().any(|part| reads(part, wanted)),
        Expr::Comprehension(walk) => [&walk.iter_range, &walk.loop_cond, &walk.loop_step, &walk.result]
            .into_iter()
            .any(|part| reads(part, wanted)),
        _ => false,
    }
}
