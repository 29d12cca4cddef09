//! The methods of this module.
