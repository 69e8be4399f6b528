package metadata

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A cluster whose quorum is lost is founded anew from what is left: an Image that may be old, and what the nodes' disks have. Restore decides
// from these alone, so everybody who is given the same decides the same.

// LogEnd is how far a partition's records reach on one node's disk.
type LogEnd struct {
	Topic     string  `json:"topic"`
	ID        TopicID `json:"topic_id"`
	Number    int32   `json:"partition"`
	LastEpoch Epoch   `json:"last_epoch"` // of the last record; -1: there is none
	MaxEpoch  Epoch   `json:"max_epoch"`  // the highest that the log knows of
	End       int64   `json:"end"`        // the offset behind the last record
	// Failed is why the log could not be read: it counts as one that is not there.
	Failed string `json:"failed,omitempty"`
}

// Survey is what one node's disks have, all of it, taken while the node was stopped.
type Survey struct {
	Node NodeID `json:"node"`
	// TailLost says that the node may have lost the ends of its logs, as RegisterNode.TailLost does.
	TailLost bool     `json:"tail_lost,omitempty"`
	Logs     []LogEnd `json:"logs"`
}

// Restoration is what Restore decided.
type Restoration struct {
	Image      *Image
	Partitions []RestoredPartition
	// Unknown are logs of topics that the Image does not have: the nodes set them aside when they start (invariant 8).
	Unknown []LogEnd
}

// RestoredPartition is who leads a partition.
type RestoredPartition struct {
	Topic   string   `json:"topic"`
	Number  int32    `json:"partition"`
	Leader  NodeID   `json:"leader"`
	End     int64    `json:"end"` // of the leader's log
	Epoch   Epoch    `json:"leader_epoch"`
	Missing []NodeID `json:"missing,omitempty"` // replicas that nobody has looked at, or that may have lost their tail
	// Risk is why acknowledged records may be missing; "": none is.
	Risk string `json:"risk,omitempty"`
}

const (
	// epochMargin is added to the highest epoch that is known. The disks tell those under which there are records, which keeps fencing and truncation
	// right; elections without a record leave no trace there, but clients have heard of them, and believe nothing older.
	epochMargin = 1 << 16
	// producerMargin is more producer ids than were given since any backup: one that is given twice would have new records taken for old ones.
	producerMargin = 1 << 32
)

// ErrRestore is the answer for what cannot be put together.
var ErrRestore = errors.New("cannot be restored")

// Restore makes the first Image of a new quorum. index is its raft index, higher than any that the nodes have seen; id names the restoration;
// founder leads what no surveyed node has.
//
// Of each partition that one leads whose log has the last record of the highest epoch, and the most of them: as raft elects. It has every acknowledged record that
// any surveyed node has. Nothing acknowledged is missing when all replicas were surveyed, or fewer are missing than min.insync.replicas.
func Restore(image *Image, index uint64, id string, founder NodeID, surveys []Survey) (*Restoration, error) {
	next := *image
	next.Index, next.Restored = index, id
	if next.NextProducerID > math.MaxInt64-producerMargin {
		return nil, fmt.Errorf("%w: no producer ids are left", ErrRestore)
	}
	next.NextProducerID += producerMargin
	r := &Restoration{Image: &next}
	at, err := surveyed(image, founder, surveys)
	if err != nil {
		return nil, err
	}
	next.Nodes = map[NodeID]*Node{}
	for id, n := range image.Nodes {
		down := *n
		down.Fenced, down.Epoch, down.Since = true, 0, 0 // it has not registered in this quorum
		next.Nodes[id] = &down
	}
	for id := range at {
		if next.Nodes[id] == nil {
			next.Nodes[id] = &Node{ID: id, Fenced: true, Level: image.Level()}
		}
	}
	hosted := map[NodeID]int{}
	for id := range at {
		hosted[id] = image.Hosted(id)
	}
	next.Topics, next.TopicIDs = map[string]*Topic{}, map[TopicID]*Topic{}
	for _, t := range sortedValues(image.Topics) {
		u := &Topic{Name: t.Name, ID: t.ID, Internal: t.Internal}
		for _, p := range t.Partitions {
			q, said, err := image.restored(p, at, hosted)
			if err != nil {
				return nil, err
			}
			u.Partitions = append(u.Partitions, q)
			r.Partitions = append(r.Partitions, said)
		}
		next.Topics[u.Name], next.TopicIDs[u.ID] = u, u
	}
	for _, s := range surveys {
		for _, l := range s.Logs {
			if image.TopicIDs[l.ID].partition(l.Number) == nil {
				r.Unknown = append(r.Unknown, l)
			}
		}
	}
	return r, nil
}

// looked is a survey by partition.
type looked struct {
	tailLost bool
	logs     map[PartitionID]LogEnd
}

func surveyed(image *Image, founder NodeID, surveys []Survey) (map[NodeID]looked, error) {
	at := map[NodeID]looked{}
	for _, s := range surveys {
		if _, twice := at[s.Node]; twice {
			return nil, fmt.Errorf("%w: node %d was surveyed twice", ErrRestore, s.Node)
		}
		l := looked{s.TailLost, map[PartitionID]LogEnd{}}
		for _, e := range s.Logs {
			id := PartitionID{e.ID, e.Number}
			if other, twice := l.logs[id]; !twice || further(e, other) > 0 {
				l.logs[id] = e
			}
		}
		at[s.Node] = l
	}
	if len(surveys) == 0 {
		at[founder] = looked{}
	}
	if _, ok := at[founder]; !ok {
		return nil, fmt.Errorf("%w: node %d is to found the quorum and was not surveyed", ErrRestore, founder)
	}
	for id := range at {
		if image.Removed(id) {
			return nil, fmt.Errorf("%w: node %d was removed from the cluster", ErrRestore, id)
		}
	}
	return at, nil
}

// restored is p as it begins in the new quorum, without a leader until the only member of its ISR has come.
func (i *Image) restored(p *Partition, at map[NodeID]looked, hosted map[NodeID]int) (*Partition, RestoredPartition, error) {
	q := *p
	q.Leader, q.ELR, q.LastKnownELR, q.Offline = -1, nil, nil, nil
	said := RestoredPartition{Topic: p.Topic, Number: p.Number}
	epoch := p.LeaderEpoch
	leader, best, found := NodeID(-1), LogEnd{}, false
	broken := NodeID(-1)
	order := slices.Clone(p.Replicas)
	for _, n := range slices.Sorted(maps.Keys(at)) {
		if !slices.Contains(order, n) {
			order = append(order, n)
		}
	}
	for _, n := range order {
		l, ok := at[n]
		replica := slices.Contains(p.Replicas, n)
		end, has := l.logs[p.ID()]
		epoch = max(epoch, end.MaxEpoch, end.LastEpoch)
		if replica && (!ok || l.tailLost || end.Failed != "") {
			said.Missing = append(said.Missing, n)
		}
		if !has {
			end = LogEnd{LastEpoch: -1}
		}
		if end.Failed != "" && broken == -1 {
			broken = n
		}
		if !ok || end.Failed != "" || !has && !replica {
			continue
		}
		if !found || further(end, best) > 0 {
			leader, best, found = n, end, true
		}
	}
	switch {
	case !found && broken >= 0:
		leader = broken
	case !found:
		leader = slices.MinFunc(slices.Sorted(maps.Keys(at)), func(a, b NodeID) int { return cmp.Or(cmp.Compare(hosted[a], hosted[b]), cmp.Compare(a, b)) })
		hosted[leader]++
	}
	replica := slices.Contains(p.Replicas, leader)
	switch {
	case !found && broken >= 0:
		said.Risk = fmt.Sprintf("no other log of it was found, and that of node %d cannot be read: it is offline until `forebay log repair` has mended it", broken)
	case !found:
		said.Risk = "none of its replicas was surveyed: it begins empty"
	case !replica:
		said.Risk = "the metadata is from before it was moved: acknowledged records may be missing"
	case len(said.Missing) > 0 && len(said.Missing) >= i.minISR(p):
		said.Risk = fmt.Sprintf("acknowledged records that only the missing replicas had are gone: min.insync.replicas is %d", i.minISR(p))
	}
	if !replica {
		q.Replicas, q.Adding, q.Removing = slices.Clone(p.Replicas), nil, nil
		if k := slices.IndexFunc(q.Replicas, func(n NodeID) bool { _, ok := at[n]; return !ok }); k >= 0 {
			q.Replicas[k] = leader
		} else {
			q.Replicas = append(q.Replicas, leader)
		}
	}
	if epoch > math.MaxInt32-epochMargin || p.PartitionEpoch > math.MaxInt32-epochMargin {
		return nil, said, fmt.Errorf("%w: %s-%d is at leader epoch %d, and there are not enough left", ErrRestore, p.Topic, p.Number, epoch)
	}
	q.ISR, q.LeaderEpoch, q.PartitionEpoch = []NodeID{leader}, epoch+epochMargin, p.PartitionEpoch+epochMargin
	said.Leader, said.End, said.Epoch = leader, best.End, q.LeaderEpoch
	return &q, said, nil
}

// further compares how much of what was acknowledged two logs can have.
func further(a, b LogEnd) int {
	return cmp.Or(cmp.Compare(a.LastEpoch, b.LastEpoch), cmp.Compare(a.End, b.End))
}

// Identity is the cluster that an Image is of, for its nodes among themselves: its id, and which restoration. Who has metadata from before one has nothing to say
// to who has it from after. Clients see the id alone.
func (i *Image) Identity() string { return Identity(i.ClusterID, i.Restored) }

// Identity is that of a cluster and a restoration, "" for none.
func Identity(cluster, restored string) string {
	if restored == "" {
		return cluster
	}
	return cluster + restoredMark + restored
}

const restoredMark = " restored "

// OtherRestoration says that two identities are of one cluster before and after a restoration, or after two.
func OtherRestoration(a, b string) bool {
	x, _, _ := strings.Cut(a, restoredMark)
	y, _, _ := strings.Cut(b, restoredMark)
	return a != b && x != "" && x == y
}
