/// The word of a bucket without alignment, so that it takes no padding after an address. With
/// several limits it is a place among [`Words`].
pub(super) type Word = [u8; 8];

/// The words of the buckets of a layer with several limits, so many for each; nothing for one.
#[derive(Debug)]
pub(super) struct Words {
    each: usize,
    kept: Vec<u64>,
    free: Vec<Word>,
}

/// The words of one bucket, while something is done with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    each: usize,
    words: [u64; MOST],
}

/// More limits at once than anybody can explain to those who are limited.
pub(super) const MOST: usize = 4;

impl Held {
    pub(super) fn new(each: usize) -> Self {
        Self { each, words: [0; MOST] }
    }

    #[inline]
    pub(super) fn words(&mut self) -> &mut [u64] {
        &mut self.words[..self.each]
    }
}

impl Words {
    pub(super) fn new(each: usize) -> Self {
        Self { each, kept: Vec::new(), free: Vec::new() }
    }

    #[inline]
    pub(super) fn load(&self, word: Word) -> Held {
        let mut held = Held::new(self.each);
        if self.each == 1 {
            held.words[0] = u64::from_ne_bytes(word);
        } else {
            let start = self.start(word);
            held.words().copy_from_slice(&self.kept[start..start + self.each]);
        }
        held
    }

    #[inline]
    pub(super) fn store(&mut self, word: &mut Word, mut held: Held) {
        if self.each == 1 {
            *word = held.words[0].to_ne_bytes();
        } else {
            let start = self.start(*word);
            self.kept[start..start + self.each].copy_from_slice(held.words());
        }
    }

    /// Makes room for the words of another bucket.
    pub(super) fn keep(&mut self, held: Held) -> Word {
        let mut word = [0; 8];
        if self.each > 1 {
            word = self.free.pop().unwrap_or_else(|| {
                let place = self.kept.len() / self.each;
                self.kept.resize(self.kept.len() + self.each, 0);
                (place as u64).to_ne_bytes()
            });
        }
        self.store(&mut word, held);
        word
    }

    pub(super) fn forget(&mut self, word: Word) {
        if self.each > 1 {
            self.free.push(word);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.kept, self.free) = (Vec::new(), Vec::new());
    }

    pub(super) fn bytes(&self) -> usize {
        (self.kept.capacity() + self.free.capacity()) * size_of::<u64>()
    }

    fn start(&self, word: Word) -> usize {
        usize::try_from(u64::from_ne_bytes(word)).expect("a place in memory") * self.each
    }
}
