//! Numbered places in fixed-size chunks.
//!
//! A `Vec` that doubles would copy everything at once, in one callback, and would leave a hole that nothing of its
//! size ever fills again. Chunks of one size are allocated one at a time, and those of a dropped table serve the next.

/// The number of places in a chunk.
const CHUNK: usize = 1_024;

/// What a slab can contain. A free place holds the number of the next free one.
pub(super) trait Place: Sized {
    /// Makes a free place before `next`.
    fn free(next: u32) -> Self;
    /// Returns the number that [`free`](Self::free) was given.
    fn next(&self) -> u32;
}

/// Places with numbers from 0. A content keeps its number until it is taken out.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    /// The head of the list of free places; [`NONE`] ends it.
    free: u32,
}

const NONE: u32 = u32::MAX;

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: NONE }
    }
}

impl<T: Place> Slab<T> {
    /// Puts `content` into a free place below `limit`, or returns it if there is none.
    pub(super) fn insert(&mut self, content: T, limit: u32) -> Result<u32, T> {
        if let Some(place) = self.get_mut(self.free) {
            let next = place.next();
            *place = content;
            return Ok(std::mem::replace(&mut self.free, next));
        }
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let number = match self.chunks.last() {
            Some(last) if last.len() < CHUNK => full + last.len(),
            Some(_) => full + CHUNK,
            None => 0,
        };
        let Some(number) = u32::try_from(number).ok().filter(|number| *number < limit) else { return Err(content) };
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(content),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(content);
                self.chunks.push(chunk);
            }
        }
        Ok(number)
    }

    /// Frees a place.
    pub(super) fn remove(&mut self, number: u32) {
        let next = self.free;
        if let Some(place) = self.get_mut(number) {
            *place = T::free(next);
            self.free = number;
        }
    }

    /// Drops one chunk. Returns false if there is none.
    pub(super) fn drop_chunk(&mut self) -> bool {
        self.chunks.pop().is_some()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }

    /// Returns every place, free ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}
