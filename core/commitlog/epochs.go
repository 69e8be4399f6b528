package commitlog

import "sort"

// EpochEnd answers OffsetForLeaderEpoch as Kafka's LeaderEpochFileCache.endOffsetFor does
// (KIP-101, KIP-279): the largest epoch ≤ epoch and the offset where the next one starts. An epoch newer than all is
// (-1, -1); one older than all is itself with the first known start.
func (l *Log) EpochEnd(epoch int32) (found int32, end int64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := len(l.epochs)
	if epoch < 0 || n == 0 || epoch > l.epochs[n-1].epoch {
		return -1, -1
	}
	if epoch == l.epochs[n-1].epoch {
		return epoch, l.leo
	}
	higher := sort.Search(n, func(i int) bool { return l.epochs[i].epoch > epoch })
	if higher == 0 {
		return epoch, l.epochs[0].start
	}
	return l.epochs[higher-1].epoch, l.epochs[higher].start
}

// LatestEpoch is the epoch of the last batch, or of BeginEpoch; -1 when empty.
func (l *Log) LatestEpoch() int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.epochs); n > 0 {
		return l.epochs[n-1].epoch
	}
	return -1
}

// EarliestEpoch is the epoch of the log's first offset; -1 when none is known.
func (l *Log) EarliestEpoch() int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.epochs) > 0 {
		return l.epochs[0].epoch
	}
	return -1
}

// EpochAt is the epoch at an offset; -1 when it is not known.
func (l *Log) EpochAt(offset int64) int32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return epochAt(l.epochs, offset)
}

func epochAt(list []epochEntry, offset int64) int32 {
	if i := sort.Search(len(list), func(i int) bool { return list[i].start > offset }); i > 0 {
		return list[i-1].epoch
	}
	return -1
}

// BeginEpoch notes that a leader of this epoch starts at the current end. It is
// durable with the first records of the epoch; without records nobody can miss it.
func (l *Log) BeginEpoch(epoch int32) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dirty := l.epochsDirty
	l.assignEpochLocked(epoch, l.leo)
	l.epochsDirty = dirty // nothing is written for an epoch that has no records: a stop would sync thousands of files for it
	return nil
}

// assignEpochLocked notes that epoch starts at offset, if it is newer than all that have records. Epochs
// without records give way, to newer ones and to older: of such an epoch nobody has anything, so a batch of an older one goes on with that one.
func (l *Log) assignEpochLocked(epoch int32, offset int64) {
	n := len(l.epochs)
	if epoch < 0 {
		return
	}
	if n > 0 && epoch == l.epochs[n-1].epoch {
		l.epochsDirty = l.epochsDirty || l.epochs[n-1].start == offset // its first records
		return
	}
	for n > 0 && l.epochs[n-1].start >= offset {
		n--
	}
	newer := n == 0 || epoch > l.epochs[n-1].epoch
	if !newer && n == len(l.epochs) {
		return
	}
	l.epochs = l.epochs[:n:n]
	if newer {
		l.epochs = append(l.epochs, epochEntry{epoch, offset})
	}
	l.epochsDirty = true
}

// cutEpochs drops the epochs that start at or after end.
func cutEpochs(list []epochEntry, end int64) []epochEntry {
	n := sort.Search(len(list), func(i int) bool { return list[i].start >= end })
	return list[:n:n]
}

// raiseEpochs drops the epochs that end at or before start; the one that holds start begins there.
func raiseEpochs(list []epochEntry, start int64) []epochEntry {
	i := sort.Search(len(list), func(i int) bool { return list[i].start > start })
	if i <= 1 && (i == 0 || list[0].start >= start) {
		return list
	}
	kept := append([]epochEntry(nil), list[i-1:]...)
	kept[0].start = max(kept[0].start, start)
	return kept
}
