/// The word of a bucket without alignment, so that it takes no padding after an address. With
/// several limits it is a place among [`Words`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Word([u8; 8]);

/// Somebody waits for the key: its queue has to be asked.
const WAITED: u64 = 1 << 63;

impl Word {
    #[inline]
    pub(super) fn is_waited(self) -> bool {
        u64::from_ne_bytes(self.0) & WAITED != 0
    }

    /// Whether somebody waits has no part in what it holds.
    #[inline]
    pub(super) fn set_waited(&mut self, waited: bool) {
        let word = self.get() | if waited { WAITED } else { 0 };
        self.0 = word.to_ne_bytes();
    }

    /// When the bucket is full again, where there is one limit and nobody waits.
    #[inline]
    pub(super) fn get(self) -> u64 {
        u64::from_ne_bytes(self.0) & !WAITED
    }

    #[inline]
    pub(super) fn set(&mut self, full_at: u64) {
        let waited = u64::from_ne_bytes(self.0) & WAITED;
        self.0 = (full_at | waited).to_ne_bytes();
    }
}

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

    pub(super) fn words(&mut self) -> &mut [u64] {
        &mut self.words[..self.each]
    }
}

impl Words {
    pub(super) fn new(each: usize) -> Self {
        Self { each, kept: Vec::new(), free: Vec::new() }
    }

    pub(super) fn load(&self, word: Word) -> Held {
        let mut held = Held::new(self.each);
        if self.each == 1 {
            held.words[0] = word.get();
        } else {
            let start = self.start(word);
            held.words().copy_from_slice(&self.kept[start..start + self.each]);
        }
        held
    }

    pub(super) fn store(&mut self, word: &mut Word, mut held: Held) {
        if self.each == 1 {
            word.set(held.words[0]);
        } else {
            let start = self.start(*word);
            self.kept[start..start + self.each].copy_from_slice(held.words());
        }
    }

    /// Makes room for the words of another bucket.
    pub(super) fn keep(&mut self, held: Held) -> Word {
        let mut word = Word([0; 8]);
        if self.each > 1 {
            word = self.free.pop().unwrap_or_else(|| {
                let place = self.kept.len() / self.each;
                self.kept.resize(self.kept.len() + self.each, 0);
                Word((place as u64).to_ne_bytes())
            });
        }
        self.store(&mut word, held);
        word
    }

    pub(super) fn forget(&mut self, mut word: Word) {
        if self.each > 1 {
            word.set_waited(false);
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
        usize::try_from(word.get()).expect("a place in memory") * self.each
    }
}
