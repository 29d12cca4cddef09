//! Things by number, with the numbers of those that have gone used again.

/// A table with a free list.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn put(&mut self, thing: T) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[at as usize] = Some(thing);
        at
    }

    /// # Panics
    /// If there is none: a bug.
    pub(super) fn take(&mut self, at: u32) -> T {
        self.free.push(at);
        self.places[at as usize].take().expect("a thing with this number")
    }

    /// Takes any. Looks at every place.
    pub(super) fn pop(&mut self) -> Option<T> {
        let at = self.places.iter().position(Option::is_some)?;
        Some(self.take(at as u32))
    }

    /// Takes out all that are not to be kept. Looks at every place.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.take_if(|thing| !keep(thing)).is_some() {
                self.free.push(at as u32);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
