//go:build linux

package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/tests/ledger"
)

// replica is what a node's disk has of a partition.
type replica struct {
	start, end int64            // the first offset of the first batch, and beyond the last of the last one
	batches    map[int64]uint64 // base offset -> hash of all its bytes
	records    map[int64]uint64 // offset -> hash of the record's own bytes
}

// compare stops the nodes and holds the replicas' files against each other: where two have the same offset it is the same record; where nothing is
// compacted they are the same bytes from start to end; none has an aborted transaction twice. Nobody may write any more.
func (c *cluster) compare() (text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	known, err := c.admin.ListTopicsWithInternal(ctx, ledger.Topics()...)
	if err != nil {
		return "", err
	}
	for i, m := range c.nodes[1:] {
		if err := m.Stop(); err != nil {
			return "", fmt.Errorf("node %d: SIGTERM: %w", i+1, err)
		}
	}
	partitions, records := 0, 0
	for _, t := range known.Sorted() {
		internal := strings.HasPrefix(t.Topic, "__") // timeouts may still have been written there when the first node had gone
		compacted := internal || t.Topic == "table"
		for _, p := range t.Partitions.Sorted() {
			var first *replica
			for _, n := range p.Replicas {
				name := fmt.Sprintf("%s-%d", t.Topic, p.Partition)
				r, err := readReplica(c.nodes[n].Data, name)
				if err != nil {
					return "", fmt.Errorf("node %d: %s: %w", n, name, err)
				}
				if first == nil {
					first = r
					continue
				}
				if err := first.differs(r, compacted, internal); err != nil {
					return "", fmt.Errorf("%s on nodes %d and %d: %w", name, p.Replicas[0], n, err)
				}
			}
			partitions++
			records += len(first.records)
		}
	}
	if records == 0 {
		return "", fmt.Errorf("no records were found on the disks of %d partitions", partitions)
	}
	return fmt.Sprintf("%d records of %d partitions are the same on three disks", records, partitions), nil
}

func readReplica(data, name string) (*replica, error) {
	segments, err := filepath.Glob(filepath.Join(data, "*", name, "*.log"))
	if err != nil {
		return nil, err
	}
	slices.Sort(segments) // by base offset, the names are padded
	r := &replica{start: -1, batches: map[int64]uint64{}, records: map[int64]uint64{}}
	for _, segment := range segments {
		b, err := os.ReadFile(segment)
		if err != nil {
			return nil, err
		}
		for len(b) > 0 {
			if err := r.add(&b); err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Base(segment), err)
			}
		}
	}
	indexes, err := filepath.Glob(filepath.Join(data, "*", name, "*.txnindex"))
	if err != nil {
		return nil, err
	}
	for _, index := range indexes {
		b, err := os.ReadFile(index)
		if err != nil {
			return nil, err
		}
		if err := abortedOnce(b); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(index), err)
		}
	}
	return r, nil
}

// abortedOnce says whether a .txnindex file (docs/formats) has every aborted transaction once, in the order of markers: a client that is told of one twice may drop
// what is committed later.
func abortedOnce(b []byte) error {
	const header, entry, marker = 16, 36, 16
	before := int64(-1)
	for at := header; at+entry <= len(b); at += entry {
		offset := int64(binary.BigEndian.Uint64(b[at+marker:]))
		if offset <= before {
			return fmt.Errorf("the marker at %d comes after the one at %d", offset, before)
		}
		before = offset
	}
	return nil
}

// add takes the next batch from b.
func (r *replica) add(b *[]byte) error {
	h, batch, rest, err := record.Next(*b)
	if err != nil {
		return err
	}
	if err := batch.Check(); err != nil {
		return fmt.Errorf("offset %d: %w", h.BaseOffset, err)
	}
	if h.BaseOffset < r.end {
		return fmt.Errorf("a batch at %d follows one that ends before %d", h.BaseOffset, r.end)
	}
	whole := fnv.New64a()
	_, _ = whole.Write((*b)[:len(*b)-len(rest)]) // a hash takes everything
	r.batches[h.BaseOffset] = whole.Sum64()
	if r.start < 0 {
		r.start = h.BaseOffset
	}
	r.end = h.LastOffset() + 1
	*b = rest
	var reader record.Reader
	if err := reader.Reset(h, batch, 64<<20); err != nil {
		return err
	}
	for reader.Next() {
		one := reader.Record()
		hash := fnv.New64a()
		fmt.Fprintf(hash, "%d %d %d %d %v ", one.Timestamp, h.ProducerID, h.ProducerEpoch, len(one.Key), one.Value == nil)
		_, _ = hash.Write(bytes.Join([][]byte{one.Key, one.Value}, nil))
		r.records[one.Offset] = hash.Sum64()
	}
	return reader.Err()
}

func (r *replica) differs(other *replica, compacted, open bool) error {
	for offset, hash := range r.records {
		if got, ok := other.records[offset]; ok && got != hash {
			return fmt.Errorf("offset %d has two contents", offset)
		}
	}
	if !open && r.end != other.end {
		return fmt.Errorf("they end at %d and %d", r.end, other.end)
	}
	if compacted {
		return nil
	}
	start, end := max(r.start, other.start), min(r.end, other.end)
	for offset, hash := range r.batches {
		if got, ok := other.batches[offset]; offset >= start && offset < end && (!ok || got != hash) {
			return fmt.Errorf("the batch at %d is not the same (%v)", offset, ok)
		}
	}
	for offset := range other.batches {
		if _, ok := r.batches[offset]; offset >= start && offset < end && !ok {
			return fmt.Errorf("only one has a batch at %d", offset)
		}
	}
	return nil
}
