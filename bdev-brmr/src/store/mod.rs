//! The storage side: stores on bdevs.
