package commitlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"sort"

	"github.com/forebayhub/forebay/internal/vfs"
)

// A .txnindex file is "FBTX", version 1, three zeros, the base offset, and entries of 36 bytes:
// producer id, first offset, marker offset, last stable offset at the marker, CRC-32C of those.
const (
	txnMagic   = "FBTX"
	txnHeader  = 16
	txnEntry   = 36
	maxTxnFile = 1 << 30
)

func txnHead(base int64) []byte {
	b := append([]byte(txnMagic), stateVersion, 0, 0, 0)
	return binary.BigEndian.AppendUint64(b, uint64(base))
}

func encodeTxn(b []byte, a abortedTxn) []byte {
	at := len(b)
	for _, v := range []int64{a.ProducerID, a.FirstOffset, a.LastOffset, a.stable} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// decodeTxns reads a file; what is cut short at its end was not vouched for and is left out.
func decodeTxns(b []byte, base int64) ([]abortedTxn, error) {
	if len(b) < txnHeader || string(b[:4]) != txnMagic || b[4] != stateVersion || int64(binary.BigEndian.Uint64(b[8:])) != base {
		return nil, fmt.Errorf("%w: no transaction index of version %d for %d", errBadState, stateVersion, base)
	}
	var list []abortedTxn
	for b = b[txnHeader:]; len(b) >= txnEntry; b = b[txnEntry:] {
		if crc32.Checksum(b[:txnEntry-4], castagnoli) != binary.BigEndian.Uint32(b[txnEntry-4:]) {
			return list, fmt.Errorf("%w: transaction index entry %d", errBadState, len(list))
		}
		r := fields{b: b}
		list = append(list, abortedTxn{AbortedTxn{r.i64(), r.i64(), r.i64()}, r.i64()})
	}
	return list, nil
}

// newlyAborted are the aborted transactions with a marker below end that no file has; mu is held.
func (l *Log) newlyAborted(end int64) []abortedTxn {
	return l.abortedIn(l.abortedDisk, end)
}

// abortedIn are the aborted transactions with a marker in [from, to); mu or w is held.
func (l *Log) abortedIn(from, to int64) []abortedTxn {
	at := func(offset int64) int {
		return sort.Search(len(l.aborted), func(i int) bool { return l.aborted[i].LastOffset >= offset })
	}
	if at(from) >= at(to) {
		return nil
	}
	return append([]abortedTxn(nil), l.aborted[at(from):at(to)]...)
}

// saveAborted appends to the files of the segments that hold the markers, durably; l.saving is held. What one file has is noted before the next one is written, which may
// fail for want of room, as may what follows: it must not be appended twice.
func (l *Log) saveAborted(list []abortedTxn, segs []*segment) error {
	for len(list) > 0 {
		i := sort.Search(len(segs), func(i int) bool { return segs[i].base > list[0].LastOffset })
		n := len(list)
		if i < len(segs) {
			n = sort.Search(len(list), func(k int) bool { return list[k].LastOffset >= segs[i].base })
		}
		if i > 0 { // else retention has taken the segment
			if err := l.appendTxns(segs[i-1], list[:n]); err != nil {
				return err
			}
		}
		l.mu.Lock()
		l.abortedDisk = max(l.abortedDisk, list[n-1].LastOffset+1)
		l.mu.Unlock()
		list = list[n:]
	}
	return nil
}

func (l *Log) appendTxns(s *segment, list []abortedTxn) error {
	f, err := l.fs.OpenFile(segmentName(l.dir, s.base, txnSuffix), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	var b []byte
	pos := int64(0)
	if s.txns == 0 {
		b = txnHead(s.base)
	} else {
		pos = txnHeader + int64(s.txns)*txnEntry
	}
	for _, a := range list {
		b = encodeTxn(b, a)
	}
	if err = f.Truncate(pos); err == nil { // what lies there was never vouched for
		if _, err = f.WriteAt(b, pos); err == nil {
			err = f.Sync()
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if s.txns == 0 {
		if err := vfs.SyncDir(l.fs, l.dir); err != nil {
			return err
		}
	}
	s.txns += len(list)
	return nil
}

// cutTxns takes the entries that do not count any more from a file, durably: the log will grow
// past their offsets, and then they would be believed.
func (l *Log) cutTxns(s *segment) error {
	name := segmentName(l.dir, s.base, txnSuffix)
	st, err := l.fs.Stat(name)
	if notExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := int64(0)
	if s.txns > 0 {
		keep = txnHeader + int64(s.txns)*txnEntry
	}
	if st.Size() <= keep {
		return nil
	}
	f, err := l.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err = f.Truncate(keep); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// readAborted reads the files of all segments up to the offset that recovery starts from.
func readAborted(f vfs.FS, dir string, segs []*segment, end int64) ([]abortedTxn, error) {
	var all []abortedTxn
	for _, s := range segs {
		b, err := vfs.ReadFile(f, segmentName(dir, s.base, txnSuffix), maxTxnFile)
		if notExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			continue
		}
		list, err := decodeTxns(b, s.base)
		kept := sort.Search(len(list), func(i int) bool { return list[i].LastOffset >= end })
		if err != nil && kept == len(list) {
			return nil, err // damaged, and not only in what was not vouched for
		}
		s.txns = kept
		all = append(all, list[:kept]...)
	}
	return all, nil
}
