//! Faults that are planted, and how often things happened.

/// What was wrong with receipts once, planted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledgements count across timelines.
    NoTimeline,
    /// Two tables of an instance are counted as one.
    OneIdPerVm,
    /// A table counts from its second poll on, and is kept later.
    CountedLate,
    /// Contact is the time at which an answer arrives.
    ContactOnArrival,
    /// Keys of the configuration are not told.
    InlineNotTold,
    /// Shadow mode is not told.
    ShadowNotTold,
    /// A jump of the wall clock makes instances look gone.
    WallClockJumps,
    /// Replicas send each other times of clocks that differ.
    WallClocksDiffer,
    /// Anybody can acknowledge for a table.
    ForgedAcknowledgement,
    /// An instance that never comes back counts for ever.
    NothingForgets,
    /// A process that starts after a failover takes the rows that it finds for all.
    TrustsRows,
    /// A table can serve before its row is committed.
    NotRecorded,
    /// A table's first page is made from an earlier reading than its row.
    ReadTooEarly,
    /// A replica gives contact before it has told the others.
    NotTold,
}

impl Fault {
    pub const ALL: [Self; 14] = [
        Self::NoTimeline,
        Self::OneIdPerVm,
        Self::CountedLate,
        Self::ContactOnArrival,
        Self::InlineNotTold,
        Self::ShadowNotTold,
        Self::WallClockJumps,
        Self::WallClocksDiffer,
        Self::ForgedAcknowledgement,
        Self::NothingForgets,
        Self::TrustsRows,
        Self::NotRecorded,
        Self::ReadTooEarly,
        Self::NotTold,
    ];
}

/// How often things happened, over all seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub polls: u64,
    pub receipts: u64,
    pub times_named: u64,
    pub promises_judged: u64,
    pub failovers: u64,
    pub confirmations: u64,
    pub restarts: u64,
    pub cuts: u64,
    pub forged: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.polls += other.polls;
        self.receipts += other.receipts;
        self.times_named += other.times_named;
        self.promises_judged += other.promises_judged;
        self.failovers += other.failovers;
        self.confirmations += other.confirmations;
        self.restarts += other.restarts;
        self.cuts += other.cuts;
        self.forged += other.forged;
    }

    pub fn assert_everything_happened(&self) {
        let all = [self.polls, self.receipts, self.times_named, self.promises_judged, self.failovers, self.restarts];
        assert!(
            all.iter().all(|count| *count > 0) && self.cuts > 0 && self.forged > 0 && self.confirmations > 0,
            "{self:?}"
        );
    }
}
