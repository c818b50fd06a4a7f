//! Values under numbers that stay valid as long as the value is there, and are reused afterwards.
//!
//! Values are in pages that never move: growing copies nothing and leaves no outgrown table behind.
//! With a doubling table that was a third of an idle connection's memory.

/// Values of one page.
const PAGE: usize = 64;

/// A table of values under numbers.
#[derive(Debug)]
pub struct Slab<T> {
    pages: Vec<Box<[Option<T>]>>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), used: 0 }
    }
}

impl<T> Slab<T> {
    /// Inserts a value and returns its number, which no other value has.
    pub fn insert(&mut self, value: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.pages[slot as usize / PAGE][slot as usize % PAGE] = Some(value);
        self.used += 1;
        slot
    }

    /// Removes and returns the value with that number.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.pages.get_mut(slot as usize / PAGE)?[slot as usize % PAGE].take()?;
        self.free.push(slot);
        self.used -= 1;
        Some(value)
    }

    /// Returns the value with that number.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.pages.get(slot as usize / PAGE)?[slot as usize % PAGE].as_ref()
    }

    /// Returns the value with that number, to be changed.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.pages.get_mut(slot as usize / PAGE)?[slot as usize % PAGE].as_mut()
    }

    /// Iterates over all values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flat_map(|page| page.iter_mut().flatten())
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a page and returns its first number.
    fn grow(&mut self) -> u32 {
        let first = self.pages.len() * PAGE;
        let last =
            u32::try_from(first + PAGE - 1).expect("memory ends before there are 2^32 values");
        self.pages.push((0..PAGE).map(|_| None).collect());
        let first = last + 1 - PAGE as u32;
        self.free.extend((first + 1..=last).rev());
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_until_the_value_goes_and_are_dense() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..200).map(|n| slab.insert(n)).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<u32>>());
        assert_eq!(slab.remove(70), Some(70));
        assert_eq!((slab.remove(70), slab.get(70), slab.len()), (None, None, 199));
        assert_eq!(slab.insert(1_000), 70);
        assert_eq!(slab.get_mut(70), Some(&mut 1_000));
        assert_eq!(slab.get(100_000), None);
    }
}
