//! What a method's parameters look like, compiled once from the JSON Schema that `schemars` derives.
//!
//! A keyword that the walker would not check is refused when the method is registered, so nothing is ever silently
//! let through.

mod check;
mod compile;
mod fault;
mod words;

#[cfg(test)]
mod tests;

pub(crate) use check::check;
pub(crate) use compile::{Compiled, compile};
pub(crate) use fault::Fault;

/// Nesting that parameters may have; SPDK's parser stops at the same depth.
pub(crate) const DEPTH_MAX: usize = 64;

/// One value's shape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// The doc comment, on one line; empty when there is none.
    pub(crate) meaning: String,
}

/// What is accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Any,
    Null,
    Bool,
    Integer {
        min: i128,
        max: i128,
    },
    Number {
        min: f64,
        max: f64,
    },
    Text {
        chars_min: u64,
        chars_max: u64,
    },
    Uuid,
    /// One of these words.
    Word(Vec<String>),
    List {
        items: Box<Shape>,
        len_min: u64,
        len_max: u64,
        distinct: bool,
    },
    /// Exactly these, in this order.
    Tuple(Vec<Shape>),
    /// Named members, and no others.
    Members(Vec<Member>),
    /// Any names, all of one shape.
    Map(Box<Shape>),
    /// The first alternative that fits.
    OneOf(Vec<Shape>),
}

/// One named member of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}
