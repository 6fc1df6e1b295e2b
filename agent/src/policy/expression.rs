//! `when`: an expression in CEL (the Common Expression Language) over a call.
//!
//! Names are resolved one by one, as an expression asks for them, so an evaluation costs what it reads. References
//! and types are checked when the policy is loaded, as far as an example call can show them. What an expression may
//! cost is bounded by its length, its size, the nesting of its loops and an estimate of its steps (`cost`); what it
//! reads, by the limits of capture.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, Env, ExecutionError, Program, Value};

use super::cost::{self, COST_MAX, HELD_BYTES_MAX, PATTERN_BYTES_MAX};
use super::model::{FIELDS, Kind, Model, example};
use crate::call::{ApiCall, Phase};
use crate::detect::Finding;
use crate::yaml::{nearest, one_of, quote};

/// Longest expression.
pub const EXPRESSION_BYTES_MAX: usize = 4_096;
/// Most operators, names and literals in it.
const NODES_MAX: usize = 512;
/// Deepest nesting of `all`, `exists`, `map`, `filter`.
const LOOPS_MAX: usize = 2;
/// Most fields that a message lists.
const FIELDS_SHOWN_MAX: usize = 6;
/// Deepest nesting of brackets of any kind; beyond, parsing gets slow.
const BRACKETS_MAX: usize = 24;

/// A compiled `when`.
#[derive(Clone)]
pub struct Expression {
    program: Arc<Program>,
    env: Arc<Env>,
    /// The first phase at which all that it reads is known.
    pub(super) needs: Phase,
}

/// An expression failed while a call was judged. What it read stays out of it: that may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl Expression {
    /// Compiles and checks; the errors say what is wrong and what to write instead.
    pub fn compile(env: &Arc<Env>, text: &str) -> Result<Expression, Vec<(String, String)>> {
        let one = |what: &str, instead: &str| Err(vec![(what.to_owned(), instead.to_owned())]);
        if text.trim().is_empty() {
            return one(
                "the expression is empty",
                "write a condition such as `call.request.body.bytes_total > 1000`",
            );
        }
        if text.len() > EXPRESSION_BYTES_MAX {
            return one(
                "the expression is longer than 4096 bytes",
                "split it over several rules",
            );
        }
        if brackets(text) > BRACKETS_MAX {
            return one("brackets are nested too deeply", "split it over several rules");
        }
        // The parser is not ours: should it panic over some input, that is an error of this policy alone.
        let compiled = catch_unwind(AssertUnwindSafe(|| env.compile(text)));
        let program = match compiled {
            Ok(Ok(program)) => Arc::new(program),
            Ok(Err(errors)) => {
                return Err(errors
                    .errors
                    .iter()
                    .map(|error| {
                        let (line, column) = error.pos;
                        let what = format!(
                            "the expression does not compile: {} (line {line}, character {column} of it)",
                            first_line(&error.msg)
                        );
                        (what, "write an expression in CEL".to_owned())
                    })
                    .collect());
            }
            Err(_) => return one("the expression cannot be parsed", "write an expression in CEL"),
        };
        let mut check = Check {
            problems: Vec::new(),
            needs: Phase::Head,
            nodes: 0,
            bound: Vec::new(),
            loops: 0,
        };
        check.visit(program.expression());
        if check.problems.is_empty() {
            check.afford(program.expression());
        }
        if check.problems.is_empty() {
            check.try_out(&program, env);
        }
        if check.problems.is_empty() {
            Ok(Expression {
                program,
                env: env.clone(),
                needs: check.needs,
            })
        } else {
            check.problems.dedup();
            Err(check.problems)
        }
    }

    /// As it was parsed.
    pub(super) fn parsed(&self) -> &IdedExpr {
        self.program.expression()
    }

    /// Does the condition hold for this call? A header that is asked for and is not there makes it false.
    pub fn holds(&self, call: &ApiCall, findings: &[Finding]) -> Result<bool, Failed> {
        let model = Model { call, findings };
        let mut context = Context::with_env(self.env.clone());
        context.set_variable_resolver(&model);
        // As above: a panic in the interpreter must not take the agent down.
        match catch_unwind(AssertUnwindSafe(|| self.program.execute(&context))) {
            Ok(Ok(Value::Bool(holds))) => Ok(holds),
            Ok(Err(ExecutionError::NoSuchKey(_))) => Ok(false),
            _ => Err(Failed),
        }
    }
}

/// How deep brackets are nested, strings included: a bound need not be exact.
fn brackets(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Walks a parsed expression.
struct Check {
    problems: Vec<(String, String)>,
    needs: Phase,
    nodes: usize,
    /// Names bound by the loops around.
    bound: Vec<String>,
    loops: usize,
}

impl Check {
    fn problem(&mut self, what: String, instead: impl Into<String>) {
        self.problems.push((what, instead.into()));
    }

    fn visit(&mut self, node: &IdedExpr) {
        self.nodes += 1;
        if self.nodes == NODES_MAX {
            self.problem(
                format!("the expression has more than {NODES_MAX} parts"),
                "split it over several rules",
            );
        }
        if self.nodes >= NODES_MAX {
            return;
        }
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(_) => self.name(node),
            Expr::Select(select) if select.test => self.presence(&select.operand),
            Expr::Select(select) => match chain(node) {
                Some(_) => self.name(node),
                None => self.visit(&select.operand),
            },
            Expr::Call(call) => {
                if call.func_name == "matches" {
                    self.pattern(call.args.last());
                }
                for part in call.target.iter().map(|target| &**target).chain(&call.args) {
                    self.visit(part);
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|part| self.visit(part)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.visit(&entry.key);
                        self.visit(&entry.value);
                    }
                }
            }
            Expr::Struct(_) => {
                self.problem(
                    "messages cannot be built here".into(),
                    "compare the call's fields one by one",
                );
            }
            Expr::Comprehension(walk) => {
                self.loops += 1;
                if self.loops > LOOPS_MAX {
                    self.problem(
                        format!("loops are nested deeper than {LOOPS_MAX}"),
                        "split it over several rules",
                    );
                }
                self.visit(&walk.iter_range);
                let before = self.bound.len();
                self.bound.push(walk.iter_var.clone());
                self.bound.extend(walk.iter_var2.clone());
                self.bound.push(walk.accu_var.clone());
                for part in [&walk.accu_init, &walk.loop_cond, &walk.loop_step, &walk.result] {
                    self.visit(part);
                }
                self.bound.truncate(before);
                self.loops -= 1;
            }
        }
    }

    /// The pattern of `matches`.
    fn pattern(&mut self, pattern: Option<&IdedExpr>) {
        match pattern.map(|pattern| &pattern.expr) {
            Some(Expr::Literal(LiteralValue::String(text))) if text.inner().len() > PATTERN_BYTES_MAX => self
                .problem(
                    format!("the pattern of `matches` is longer than {PATTERN_BYTES_MAX} bytes"),
                    "use `in` with a list, or several patterns",
                ),
            Some(Expr::Literal(LiteralValue::String(text))) if counts(text.inner()) => self.problem(
                "the pattern of `matches` counts repetitions".into(),
                "write `+` or `*`, or the parts one by one: a counted part is multiplied when it is compiled",
            ),
            Some(Expr::Literal(LiteralValue::String(_))) => {}
            _ => self.problem(
                "the pattern of `matches` is not written out".into(),
                "write it as a string: a pattern must not come from the call",
            ),
        }
    }

    /// What it may cost at worst.
    fn afford(&mut self, node: &IdedExpr) {
        let cost = cost::of(node);
        if cost.steps > COST_MAX {
            self.problem(
                format!(
                    "the expression may take {} steps for one call, more than {COST_MAX}",
                    cost.steps
                ),
                "loop over `findings` or a list of your own instead of headers, and outside of other loops",
            );
        }
        if cost.held_bytes > HELD_BYTES_MAX {
            self.problem(
                format!(
                    "the expression may hold {} bytes at once, more than {HELD_BYTES_MAX}",
                    cost.held_bytes
                ),
                "compare parts of the call one by one instead of joining them",
            );
        }
    }

    /// `a.b.c`: has to be a field of the model, or a key of one that is a map.
    fn name(&mut self, node: &IdedExpr) {
        let Some(segments) = chain(node) else { return };
        if self.bound.iter().any(|bound| bound == segments[0]) || segments[0].starts_with('@') {
            return;
        }
        let name = segments.join(".");
        for len in (1..=segments.len()).rev() {
            let prefix = segments[..len].join(".");
            let Some(field) = FIELDS.iter().find(|field| field.name == prefix) else {
                continue;
            };
            let fits = len == segments.len() || (field.kind == Kind::Map && len + 1 == segments.len());
            if !fits {
                self.problem(
                    format!("`{prefix}` has no field {}", quote(segments[len])),
                    field.hint(),
                );
            }
            self.needs = self.needs.max(field.phase);
            return;
        }
        let within: Vec<&str> = FIELDS
            .iter()
            .map(|field| field.name)
            .filter(|field| field.starts_with(&format!("{name}.")))
            .collect();
        if !within.is_empty() {
            let instead = match within.get(..FIELDS_SHOWN_MAX) {
                Some(some) => format!(
                    "write one of its fields, such as {}; docs/policy.md lists all",
                    one_of(some)
                ),
                None => format!("write {}", one_of(&within)),
            };
            self.problem(format!("`{name}` is no value"), instead);
        } else if let Some(near) = nearest(&name, FIELDS.iter().map(|field| field.name)) {
            self.problem(
                format!("{} is not part of a call", quote(&name)),
                format!("did you mean `{near}`?"),
            );
        } else {
            self.problem(
                format!("{} is not part of a call in this build", quote(&name)),
                "see docs/policy.md for what an expression can read",
            );
        }
    }

    /// `has(a.b)`: of use for maps only, all other fields are always there.
    fn presence(&mut self, operand: &IdedExpr) {
        let segments = chain(operand);
        let root = segments.as_ref().and_then(|segments| segments.first().copied());
        if root.is_some_and(|root| root == "call" && !self.bound.iter().any(|bound| bound == root)) {
            let name = segments.unwrap_or_default().join(".");
            if !FIELDS
                .iter()
                .any(|field| field.name == name && field.kind == Kind::Map)
            {
                self.problem(
                    "`has` asks for a field that is always there".into(),
                    "use it for headers: `has(call.request.headers.host)`",
                );
                return;
            }
        }
        self.visit(operand);
    }

    /// Runs the expression, and every part of it that stands alone, over an example: an operator on the wrong types
    /// shows there, also behind `&&` and `||`.
    fn try_out(&mut self, program: &Program, env: &Arc<Env>) {
        let (call, findings) = example();
        let model = Model {
            call: &call,
            findings: &findings,
        };
        let mut context = Context::with_env(env.clone());
        context.set_variable_resolver(&model);
        let mut parts = Vec::new();
        free_parts(program.expression(), &mut Vec::new(), &mut parts);
        for part in parts {
            let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(part, &context)));
            if let Ok(Err(error)) = result
                && let Some(what) = type_error(&error)
            {
                self.problem(
                    what,
                    "compare values of the same type; docs/policy.md lists the fields' types",
                );
                return;
            }
        }
        match catch_unwind(AssertUnwindSafe(|| program.execute(&context))) {
            Ok(Ok(Value::Bool(_))) | Ok(Err(_)) => {}
            Ok(Ok(other)) => {
                self.problem(
                    format!(
                        "the expression gives a value of type {}, not true or false",
                        other.type_of()
                    ),
                    "write a condition",
                );
            }
            Err(_) => self.problem("the expression cannot be run".into(), "write it differently"),
        }
    }
}

/// `{3}`, `{1,9}`: a part of a pattern that is repeated so often.
fn counts(pattern: &str) -> bool {
    let mut parts = pattern.split('{');
    parts.next();
    parts.any(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == ','))
}

/// The names of `a.b.c`, root first; `None` for anything else.
pub(super) fn chain(node: &IdedExpr) -> Option<Vec<&str>> {
    let mut segments = Vec::new();
    let mut expr = &node.expr;
    loop {
        match expr {
            Expr::Ident(name) => {
                segments.push(name.as_str());
                segments.reverse();
                return Some(segments);
            }
            Expr::Select(select) if !select.test => {
                segments.push(select.field.as_str());
                expr = &select.operand.expr;
            }
            _ => return None,
        }
    }
}

/// Calls that use no name bound by a loop, innermost first. Returns whether the node itself is free.
fn free_parts<'e>(node: &'e IdedExpr, bound: &mut Vec<&'e str>, parts: &mut Vec<&'e IdedExpr>) -> bool {
    match &node.expr {
        Expr::Ident(name) => !bound.contains(&name.as_str()) && !name.starts_with('@'),
        Expr::Select(select) => free_parts(&select.operand, bound, parts),
        Expr::Call(call) => {
            let mut free = true;
            for part in call.target.iter().map(|target| &**target).chain(&call.args) {
                free &= free_parts(part, bound, parts);
            }
            if free {
                parts.push(node);
            }
            free
        }
        Expr::List(list) => {
            let mut free = true;
            for part in &list.elements {
                free &= free_parts(part, bound, parts);
            }
            free
        }
        Expr::Comprehension(walk) => {
            let free = free_parts(&walk.iter_range, bound, parts);
            let before = bound.len();
            bound.push(&walk.iter_var);
            bound.extend(walk.iter_var2.as_deref());
            bound.push(&walk.accu_var);
            for part in [&walk.accu_init, &walk.loop_cond, &walk.loop_step, &walk.result] {
                free_parts(part, bound, parts);
            }
            bound.truncate(before);
            free
        }
        Expr::Literal(_) => true,
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => false,
    }
}

/// Errors that every call would have; others depend on the call.
fn type_error(error: &ExecutionError) -> Option<String> {
    match error {
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UndeclaredReference(_)
        | ExecutionError::InvalidArgumentCount { .. }
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::MissingArgumentOrTarget => Some(format!(
            "the expression cannot work: {}",
            first_line(&error.to_string())
        )),
        ExecutionError::NotSupportedAsMethod { method, .. } => Some(format!(
            "the expression cannot work: {} cannot be called on that type",
            quote(method)
        )),
        ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedIndex(..)
        | ExecutionError::UnsupportedBinaryOperator(..) => {
            Some("the expression cannot work: an operator does not fit the types of its values".into())
        }
        ExecutionError::FunctionError { function, message } if function == "matches" => Some(format!(
            "the pattern of `matches` is wrong: {}",
            first_line(message)
        )),
        _ => None,
    }
}
