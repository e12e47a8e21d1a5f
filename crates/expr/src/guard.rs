//! Rewriting programs so that they end.
//!
//! jaq runs a program until it is done, however long that takes. So before a program is compiled, a filter that takes a
//! step (`tick.rs`) is put wherever it could come by again and again: at the start of each definition that calls itself, of
//! each round of `reduce` and `foreach`, on the right of each `,` and behind `..`. (`range` and `.[]` count their items
//! themselves.) The definitions of the standard library are rewritten too. A tick passes its input through, also where a
//! program computes paths or updates, and leaves calls in tail position where they were.
//!
//! The tick also measures the stack, and so does a check at every eighth level of nesting: what happens between two of
//! them needs little. For the same reason long lists and objects, which jaq nests as deep as they are long, are made into
//! balanced trees.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::load::{Arena, span};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

use crate::tick::{CHECK, DEEPEN, TICK};

/// Levels of nesting between two checks of the stack.
const LEVELS: usize = 8;

/// Most parts of a list, object or string that stay as they are; more are made into a tree.
const PARTS: usize = 8;

/// Rewrites the terms of one program, and notes what they use.
pub(crate) struct Guard<'s> {
    source: &'s str,
    names: &'s Arena,
    callees: Vec<Callee<'s>>,
    /// Functions that are called, by name and number of arguments. Local ones are among them.
    pub(crate) calls: Vec<(&'s str, usize)>,
    /// Variables that are read, with `$`. Local ones are among them.
    pub(crate) variables: Vec<&'s str>,
    /// How deep the terms nest.
    pub(crate) depth: usize,
}

/// A definition in scope, or a filter that is a parameter of one.
struct Callee<'s> {
    name: &'s str,
    arity: usize,
    /// For a definition with filters as parameters: the variable that holds how deep it has called itself.
    depth: Option<&'s str>,
    inside: bool,
    recursive: bool,
}

impl<'s> Guard<'s> {
    /// A guard for terms of `source`; `names` keeps the texts that are made up.
    pub(crate) fn new(source: &'s str, names: &'s Arena) -> Self {
        let (callees, calls, variables) = (Vec::new(), Vec::new(), Vec::new());
        Self { source, names, callees, calls, variables, depth: 0 }
    }

    /// Guard a definition. It stays in scope.
    pub(crate) fn definition(&mut self, def: Def<&'s str>) -> Def<&'s str> {
        let index = self.callees.len();
        let filters = def.args.iter().filter(|arg| !arg.starts_with('$'));
        let depth = filters.clone().next().map(|_| self.name(format!("$!{index}")));
        let callee = |name, arity, depth, inside| Callee { name, arity, depth, inside, recursive: false };
        self.callees.push(callee(def.name, def.args.len(), depth, true));
        self.callees.extend(filters.map(|arg| callee(arg, 0, None, false)));
        let body = self.term(def.body, 0);
        self.callees.truncate(index + 1);

        let this = &mut self.callees[index];
        this.inside = false;
        match this.depth {
            _ if !this.recursive => Def { body, ..def },
            None => Def { body: ticked(body), ..def },
            Some(depth) => {
                let args = std::iter::once(depth).chain(def.args).collect();
                let deepen = Term::Call(DEEPEN, vec![Term::Var(depth)]);
                Def { name: def.name, args, body: pipe(deepen, ticked(body)) }
            }
        }
    }

    /// Guard a term that stands at some level of nesting.
    pub(crate) fn term(&mut self, term: Term<&'s str>, level: usize) -> Term<&'s str> {
        self.depth = self.depth.max(level);
        let guarded = self.within(term, level + 1);
        if level % LEVELS == LEVELS - 1 { pipe(call(CHECK), guarded) } else { guarded }
    }

    fn within(&mut self, term: Term<&'s str>, level: usize) -> Term<&'s str> {
        match term {
            Term::Id | Term::Num(_) | Term::Break(_) => term,
            Term::Recurse => pipe(Term::Recurse, call(TICK)),
            Term::Var(name @ "$__loc__") => self.location(name),
            Term::Var(name) => {
                self.variables.push(name);
                Term::Var(name)
            }
            Term::Str(format, parts) => self.string(format, parts, level),
            Term::Arr(inner) => Term::Arr(inner.map(|inner| self.boxed(*inner, level))),
            Term::Obj(fields) => self.object(fields, level),
            Term::Neg(inner) => Term::Neg(self.boxed(*inner, level)),
            Term::BinOp(left, BinaryOp::Comma, right) => self.list(*left, *right, level),
            Term::BinOp(left, BinaryOp::Pipe(Some(pattern)), right) => {
                let left = self.boxed(*left, level);
                let pattern = self.pattern(pattern, level);
                Term::BinOp(left, BinaryOp::Pipe(Some(pattern)), self.boxed(*right, level))
            }
            Term::BinOp(left, op, right) => {
                let left = self.boxed(*left, level);
                Term::BinOp(left, op, self.boxed(*right, level))
            }
            Term::Label(name, inner) => Term::Label(name, self.boxed(*inner, level)),
            Term::Fold(name, over, pattern, args) => {
                let over = self.boxed(*over, level);
                let pattern = self.pattern(pattern, level);
                let args = args.into_iter().map(|arg| self.term(arg, level)).enumerate();
                let args =
                    args.map(|(position, arg)| if position == 1 { ticked(arg) } else { arg }).collect();
                Term::Fold(name, over, pattern, args)
            }
            Term::TryCatch(inner, catch) => {
                let inner = self.boxed(*inner, level);
                Term::TryCatch(inner, catch.map(|catch| self.boxed(*catch, level)))
            }
            Term::IfThenElse(branches, other) => {
                let branches = branches.into_iter();
                let branches = branches.map(|(test, then)| (self.term(test, level), self.term(then, level)));
                let branches = branches.collect();
                Term::IfThenElse(branches, other.map(|other| self.boxed(*other, level)))
            }
            Term::Def(definitions, inner) => {
                let outer = self.callees.len();
                let definitions = definitions.into_iter().map(|def| self.definition(def)).collect();
                let inner = self.boxed(*inner, level);
                self.callees.truncate(outer);
                Term::Def(definitions, inner)
            }
            Term::Call(name, args) => self.call(name, args, level),
            Term::Path(from, Path(parts)) => {
                let from = self.boxed(*from, level);
                let parts = parts.into_iter().map(|(part, opt)| (self.part(part, level), opt)).collect();
                Term::Path(from, Path(parts))
            }
        }
    }

    fn boxed(&mut self, term: Term<&'s str>, level: usize) -> Box<Term<&'s str>> {
        Box::new(self.term(term, level))
    }

    fn call(&mut self, name: &'s str, args: Vec<Term<&'s str>>, level: usize) -> Term<&'s str> {
        self.calls.push((name, args.len()));
        let callee = self.callees.iter_mut().rev().find(|it| (it.name, it.arity) == (name, args.len()));
        let depth = callee.and_then(|callee| {
            callee.recursive |= callee.inside;
            let depth = callee.depth.filter(|_| callee.recursive)?;
            Some(if callee.inside { sum(Term::Var(depth), Term::Num("1")) } else { Term::Num("0") })
        });
        // What holds the filters of the calls before is run as deep as those are many.
        let checked = |arg| if depth.is_some() { pipe(call(CHECK), arg) } else { arg };
        let args: Vec<_> = args.into_iter().map(|arg| checked(self.term(arg, level))).collect();
        Term::Call(name, depth.into_iter().chain(args).collect())
    }

    fn string(
        &mut self,
        format: Option<&'s str>,
        parts: Vec<StrPart<&'s str, Term<&'s str>>>,
        level: usize,
    ) -> Term<&'s str> {
        self.calls.extend(format.map(|format| (format, 0)));
        let part = |part| match part {
            StrPart::Term(inner) => StrPart::Term(self.term(inner, level)),
            plain => plain,
        };
        let parts = parts.into_iter().map(part).collect();
        balanced(parts, &|parts| Term::Str(format, parts))
    }

    fn object(&mut self, fields: Vec<(Term<&'s str>, Option<Term<&'s str>>)>, level: usize) -> Term<&'s str> {
        let field = |(key, value)| match value {
            Some(value) => (self.term(key, level), Some(self.term(value, level))),
            // A key alone stands for its value too (`{$x, name}`), and must stay what it is.
            None => (self.within(key, level), None),
        };
        let fields = fields.into_iter().map(field).collect();
        balanced(fields, &Term::Obj)
    }

    /// Guard a list, which the parser nests to the left as deep as it is long.
    fn list(&mut self, left: Term<&'s str>, right: Term<&'s str>, level: usize) -> Term<&'s str> {
        let mut items = vec![right];
        let mut first = left;
        while let Term::BinOp(left, BinaryOp::Comma, right) = first {
            items.push(*right);
            first = *left;
        }
        items.push(first);
        let items = items.into_iter().rev().map(|item| self.term(item, level)).collect();
        halved(items, 1, &|left, right| binary(left, BinaryOp::Comma, ticked(right)), &|mut items| {
            items.pop().unwrap_or_default()
        })
    }

    /// Guard a pattern. No check can stand within one, so each of its levels counts as the levels between two checks.
    fn pattern(&mut self, pattern: Pattern<&'s str>, level: usize) -> Pattern<&'s str> {
        self.depth = self.depth.max(level);
        match pattern {
            Pattern::Var(name) => Pattern::Var(name),
            Pattern::Arr(items) => {
                Pattern::Arr(items.into_iter().map(|item| self.pattern(item, level + LEVELS)).collect())
            }
            Pattern::Obj(fields) => {
                let field = |(key, value)| (self.term(key, level), self.pattern(value, level + LEVELS));
                Pattern::Obj(fields.into_iter().map(field).collect())
            }
        }
    }

    fn part(&mut self, part: Part<Term<&'s str>>, level: usize) -> Part<Term<&'s str>> {
        match part {
            Part::Index(index) => Part::Index(self.term(index, level)),
            Part::Range(from, upto) => {
                let from = from.map(|from| self.term(from, level));
                Part::Range(from, upto.map(|upto| self.term(upto, level)))
            }
        }
    }

    /// What `$__loc__` stands for. jaq does not know it.
    fn location(&self, name: &'s str) -> Term<&'s str> {
        let line = 1 + self.source[..span(self.source, name).start].matches('\n').count();
        let text = |text| Term::Str(None, vec![StrPart::Str(text)]);
        let line = Term::Num(self.name(line.to_string()));
        Term::Obj(vec![(text("file"), Some(text("<top-level>"))), (text("line"), Some(line))])
    }

    fn name(&self, name: String) -> &'s str {
        self.names.alloc(name)
    }
}

fn binary<'s>(left: Term<&'s str>, op: BinaryOp<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), op, Box::new(right))
}

fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    binary(left, BinaryOp::Pipe(None), right)
}

fn sum<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    binary(left, BinaryOp::Math(Math::Add), right)
}

fn ticked(term: Term<&str>) -> Term<&str> {
    pipe(call(TICK), term)
}

fn call(name: &str) -> Term<&str> {
    Term::Call(name, Vec::new())
}

/// A term made of many parts, as a balanced sum of terms made of a few.
fn balanced<'s, T>(parts: Vec<T>, make: &impl Fn(Vec<T>) -> Term<&'s str>) -> Term<&'s str> {
    halved(parts, PARTS, &sum, make)
}

fn halved<'s, T>(
    mut parts: Vec<T>,
    few: usize,
    join: &impl Fn(Term<&'s str>, Term<&'s str>) -> Term<&'s str>,
    make: &impl Fn(Vec<T>) -> Term<&'s str>,
) -> Term<&'s str> {
    if parts.len() <= few {
        return make(parts);
    }
    let right = parts.split_off(parts.len() / 2);
    join(halved(parts, few, join, make), halved(right, few, join, make))
}
