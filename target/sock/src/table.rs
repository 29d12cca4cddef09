//! Places that are used again, with names that are not.

/// Most places of a table.
pub(crate) const PLACES_MAX: u32 = 1 << 30;

/// Bit of a key that tells listeners from streams.
const LISTENER: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    place: u32,
    generation: u32,
}

/// A stream of a group. Its name is never used again in that group (but after 2³² others in the same place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub(crate) Name);

/// A listener of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) Name);

/// What an event of the kernel's is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Stream(StreamId),
    Listener(ListenerId),
}

impl StreamId {
    /// Its place in the group: small, free to be used by another stream after [`crate::Event::Closed`]. For tables of the
    /// user's that stand beside the group.
    #[must_use]
    pub fn place(self) -> usize {
        self.0.place as usize
    }
}

impl Subject {
    /// As a number that the kernel gives back.
    pub(crate) fn key(self) -> u64 {
        let number = |name: Name| u64::from(name.place) << 32 | u64::from(name.generation);
        match self {
            Subject::Stream(StreamId(name)) => number(name),
            Subject::Listener(ListenerId(name)) => number(name) | LISTENER,
        }
    }

    pub(crate) fn of_key(key: u64) -> Subject {
        let name = Name { place: ((key & !LISTENER) >> 32) as u32, generation: key as u32 };
        if key & LISTENER == 0 {
            Subject::Stream(StreamId(name))
        } else {
            Subject::Listener(ListenerId(name))
        }
    }
}

struct Place<T> {
    generation: u32,
    held: Option<T>,
}

/// Things by name.
pub(crate) struct Table<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Table<T> {
        Table { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Panics beyond [`PLACES_MAX`]; the group's bound is lower.
    pub(crate) fn add(&mut self, thing: T) -> Name {
        let place = self.free.pop().unwrap_or_else(|| {
            assert!(self.places.len() < PLACES_MAX as usize, "the group bounds its tables");
            self.places.push(Place { generation: 0, held: None });
            (self.places.len() - 1) as u32
        });
        let entry = &mut self.places[place as usize];
        entry.held = Some(thing);
        Name { place, generation: entry.generation }
    }

    pub(crate) fn get(&self, name: Name) -> Option<&T> {
        let entry = self.places.get(name.place as usize)?;
        entry.held.as_ref().filter(|_| entry.generation == name.generation)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, name: Name) -> Option<&mut T> {
        let entry = self.places.get_mut(name.place as usize)?;
        let known = entry.generation == name.generation;
        entry.held.as_mut().filter(|_| known)
    }

    pub(crate) fn remove(&mut self, name: Name) -> Option<T> {
        let entry = self.places.get_mut(name.place as usize)?;
        if entry.generation != name.generation {
            return None;
        }
        let held = entry.held.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(name.place);
        Some(held)
    }

    /// Names of everything in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        let named = |(place, entry): (usize, &Place<T>)| {
            entry.held.as_ref().map(|_| Name { place: place as u32, generation: entry.generation })
        };
        self.places.iter().enumerate().filter_map(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_name() {
        let mut table = Table::new();
        let (a, b) = (table.add('a'), table.add('b'));
        assert_eq!((table.remove(a), table.remove(a), table.len()), (Some('a'), None, 1));
        let c = table.add('c');
        assert_eq!((c.place, table.get(a)), (a.place, None));
        assert_eq!(table.get_mut(c).copied(), Some('c'));
        assert_eq!(table.names().collect::<Vec<_>>(), [c, b]);
    }

    #[test]
    fn keys_tell_streams_listeners_and_generations_apart() {
        for place in [0, 1, PLACES_MAX - 1] {
            for generation in [0, 7, u32::MAX] {
                let name = Name { place, generation };
                for subject in [Subject::Stream(StreamId(name)), Subject::Listener(ListenerId(name))] {
                    assert_eq!(Subject::of_key(subject.key()), subject);
                }
            }
        }
    }
}
