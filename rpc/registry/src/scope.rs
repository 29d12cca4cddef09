//! Which methods one way in may see.

use std::collections::BTreeSet;

/// The methods that a caller may see: all, or those of `--rpcs-allowed`. Others do not exist for it.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    allowed: Option<BTreeSet<String>>,
}

impl Scope {
    /// Every method.
    pub fn all() -> Self {
        Self::default()
    }

    /// These methods only, by their own names (an alias follows its method).
    pub fn only(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { allowed: Some(names.into_iter().map(Into::into).collect()) }
    }

    /// The names given to [`Scope::only`], in order; none when everything is allowed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().flatten().map(String::as_str)
    }

    pub(crate) fn allows(&self, name: &str) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(name))
    }
}
