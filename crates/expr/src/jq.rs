//! Programs that run on jaq: compiling and running them.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::compile::Compiler;
use jaq_core::load::parse::{Def, Term};
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Ctx, Exn, Vars};

use crate::diagnose;
use crate::document::Document;
use crate::guard::Guard;
use crate::library::{self, Data};
use crate::limits;
use crate::scope::{Scope, Variables, variable};
use crate::value::Val;
use crate::{CompileError, Failure, Limit};

/// Deepest nesting of a program. More could not be compiled or freed on any stack; people write ten.
const NESTING_MAX: usize = 1_000;

/// The definition that a program becomes.
const MAIN: &str = "crossdock_main";

/// A compiled program.
pub(crate) struct Jq {
    filter: jaq_core::Filter<Data>,
    /// The variables that it reads, which are the only ones that are looked into.
    variables: Vec<&'static str>,
    reads_input: bool,
}

impl Jq {
    /// Compile a parsed program. To be called on the stack that it was parsed on.
    pub(crate) fn compile(source: &str, term: Term<&str>, scope: &Scope) -> Result<Self, CompileError> {
        let names = Arena::default();
        let reads_input = reads_input(&term);
        let mut guard = Guard::new(source, &names);
        let main = guard.definition(Def { name: MAIN, args: Vec::new(), body: term });
        if guard.depth > NESTING_MAX {
            return Err(CompileError::new("the program is nested too deeply", 0..source.len()));
        }
        let read = |name: &&str| guard.variables.iter().any(|it| it.strip_prefix('$') == Some(name));
        let variables: Vec<&'static str> = scope.names().iter().copied().filter(|name| read(name)).collect();
        let dollars: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();

        let (mut definitions, functions) = library::needed(&guard.calls);
        definitions.push(main);
        let files = Arena::default();
        let modules = Loader::new(definitions).load(&files, File { code: MAIN, path: () });
        let modules =
            modules.map_err(|_| CompileError::new("the program cannot be read", 0..source.len()))?;
        let compiler =
            Compiler::default().with_funs(functions).with_global_vars(dollars.iter().map(|name| &**name));
        let filter =
            compiler.compile(modules).map_err(|errors| diagnose::undefined(source, &errors, scope))?;
        Ok(Self { filter, variables, reads_input })
    }

    /// Run the program, and give its outputs to `take` until that breaks.
    pub(crate) fn run(
        &self,
        input: &Document,
        vars: &Variables<'_>,
        mut take: impl FnMut(Val) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let input = if self.reads_input { input.value()?.clone() } else { Val::Null };
        let values = self.variables.iter().map(|name| Ok(variable(name, vars)?.value()?.clone()));
        let values = values.collect::<Result<Vec<_>, Failure>>()?;
        // jaq and its libraries are not free of panics (`[-9223372036854775808] | implode`); an event is never one.
        let run = AssertUnwindSafe(|| self.outputs(input, values, &mut take));
        let (result, passed) = limits::metered(|| catch_unwind(run));
        match (passed, result) {
            (Some(limit), _) => Err(Failure::StepLimit { limit }),
            (None, Ok(result)) => result,
            (None, Err(_)) => Err(Failure::runtime("the jq engine cannot compute this")),
        }
    }

    fn outputs(
        &self,
        input: Val,
        values: Vec<Val>,
        take: &mut impl FnMut(Val) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let context = Ctx::<Data>::new(&self.filter.lut, Vars::new(values));
        for output in self.filter.id.run((context, input)) {
            let value = output.map_err(failure)?;
            if limits::passed().is_some() || take(value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn failure(exception: Exn<'_, Val>) -> Failure {
    match exception.get_err() {
        Ok(error) => match error.into_val() {
            Val::Str(message) => Failure::runtime(&String::from_utf8_lossy(&message)),
            other => Failure::runtime(&other.to_string()),
        },
        // Only a tick halts, and it has said why.
        Err(_) => Failure::StepLimit { limit: limits::passed().unwrap_or(Limit::Steps) },
    }
}

/// Whether a term may look at its input. One that surely does not runs on documents that are not JSON.
fn reads_input(term: &Term<&str>) -> bool {
    use jaq_core::load::lex::StrPart;
    use jaq_core::load::parse::BinaryOp;
    match term {
        Term::Num(_) | Term::Var(_) | Term::Break(_) => false,
        Term::Call(name, args) => {
            !(args.is_empty() && ["true", "false", "null", "empty", "now"].contains(name))
        }
        Term::Str(_, parts) => {
            parts.iter().any(|part| matches!(part, StrPart::Term(inner) if reads_input(inner)))
        }
        Term::Arr(inner) => inner.as_ref().is_some_and(|inner| reads_input(inner)),
        Term::Obj(fields) => fields.iter().any(|(key, value)| match value {
            Some(value) => reads_input(key) || reads_input(value),
            None => !matches!(key, Term::Var(_)),
        }),
        Term::Neg(inner) | Term::Label(_, inner) => reads_input(inner),
        Term::BinOp(left, BinaryOp::Pipe(None), _) => reads_input(left),
        Term::BinOp(left, _, right) => reads_input(left) || reads_input(right),
        Term::IfThenElse(branches, other) => {
            let branches = branches.iter().any(|(test, then)| reads_input(test) || reads_input(then));
            branches || other.as_ref().is_none_or(|other| reads_input(other))
        }
        Term::Path(from, path) => reads_input(from) || !path.0.iter().all(|(part, _)| is_literal(part)),
        _ => true,
    }
}

fn is_literal(part: &jaq_core::path::Part<Term<&str>>) -> bool {
    use jaq_core::path::Part;
    let literal = |term: &Term<&str>| !reads_input(term);
    match part {
        Part::Index(index) => literal(index),
        Part::Range(from, upto) => from.iter().chain(upto).all(literal),
    }
}
