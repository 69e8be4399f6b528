package files

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors"
)

// Recover finishes what predecessors had committed, removes what they had not,
// and resumes behind the last manifest (invariant 6).
func (t *Task) Recover(ctx context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	if err := t.alive(); err != nil {
		return nil, err
	}
	out := map[connectors.TopicPartition]int64{}
	for _, a := range as {
		p, err := t.recoverPart(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("recover %s-%d: %w", a.Topic, a.Partition, err)
		}
		if old := t.parts[a.TopicPartition]; old != nil {
			if err := t.drop(ctx, old); err != nil {
				return nil, err
			}
		}
		t.parts[a.TopicPartition] = p
		out[a.TopicPartition] = p.start
	}
	return out, nil
}

func (t *Task) recoverPart(ctx context.Context, a connectors.Assignment) (*part, error) {
	if a.Topic == hidden {
		return nil, connectors.Fatal(fmt.Errorf("a topic of the name %s cannot be written: its folder is the sink's own", hidden), "")
	}
	// Before anything is written: a commit that has won could never be put in place.
	if n := len(path.Base(finalName(a.Topic, "", a.Partition, farOffset, farOffset, t.cfg.Format.Extension()))); n > maxFileName {
		return nil, connectors.Fatal(fmt.Errorf("topic %s cannot be written: the names of its files would have up to %d bytes, and file systems take %d", a.Topic, n, maxFileName),
			"leave it out of `topics`, or give it a shorter name")
	}
	pattern, err := ParsePattern(t.cfg.Pattern)
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("partition: %w", err), "")
	}
	p := &part{Assignment: a, id: partitionID(a.TopicID, a.Partition), pattern: pattern, open: map[string]*file{}}
	p.tmp = tempDir(p.id, t.env.Epoch, t.name)
	last, starts, err := t.settle(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, s := range starts {
		p.commits = append(p.commits, commitRef{start: s})
	}
	if last == nil {
		if err := t.checkRecreated(ctx, a); err != nil {
			return nil, err
		}
		p.start, p.next = a.First(), a.First()
		return p, nil
	}
	if last.Next < a.StartOffset {
		return nil, connectors.Fatal(fmt.Errorf("offsets %d to %d are lost: the target holds the topic up to offset %d, but the log now starts at %d",
			last.Next, a.StartOffset-1, last.Next-1, a.StartOffset),
			"retention removed them before they were written; to go on behind the gap, move the topic's folder and "+commitDir(p.id)+" away")
	}
	if last.Next > a.EndOffset {
		return nil, connectors.Fatal(fmt.Errorf("the target holds the topic up to offset %d, but the log ends at %d: the log has lost records, or is another one",
			last.Next-1, a.EndOffset), "")
	}
	p.start, p.next = last.Next, last.Next
	return p, nil
}

// settle brings the partition's folder into the state that its manifests
// describe, and returns the last one. No predecessor can commit once it is done, however long it sleeps:
//
//  1. The files of the last manifests are moved into place.
//  2. The manifests that predecessors have prepared are moved out of their way,
//     so a rename that is still to come finds nothing to rename.
//  3. If the last manifest is another than before, one of them won before step 2: from the start.
//  4. Only now nothing in their temp folders can be needed, and it is removed.
func (t *Task) settle(ctx context.Context, p *part) (*Manifest, []int64, error) {
	for {
		before, err := listCommits(ctx, t.target, p.id)
		if err != nil {
			return nil, nil, err
		}
		last, starts, err := t.redo(ctx, p, before)
		if err != nil {
			return nil, nil, err
		}
		stale, err := t.disarm(ctx, p)
		if err != nil {
			return nil, nil, err
		}
		again, err := listCommits(ctx, t.target, p.id)
		if err != nil {
			return nil, nil, err
		}
		if len(again) != len(before) || len(again) > 0 && again[len(again)-1] != before[len(before)-1] {
			continue
		}
		for _, dir := range stale {
			if err := t.target.Remove(ctx, dir); err != nil {
				return nil, nil, fmt.Errorf("remove %s: %w", dir, err)
			}
		}
		return last, starts, nil
	}
}

// redo moves the files of the newest manifests into place, back to the first one that is noted as done.
func (t *Task) redo(ctx context.Context, p *part, listed []int64) (last *Manifest, starts []int64, err error) {
	starts = slices.Clone(listed)
	for i := len(starts) - 1; i >= 0; i-- {
		name := commitName(p.id, starts[i])
		_, derr := t.target.Stat(ctx, name+"/"+doneFile)
		if derr != nil && !errors.Is(derr, fs.ErrNotExist) {
			return nil, nil, derr
		}
		if derr == nil && last != nil {
			break
		}
		m, err := readManifest(ctx, t.target, name)
		var broken *manifestError
		switch {
		case errors.Is(err, errNoManifest):
			// An empty folder: a removal that was cut off. It is no commit, and a rename onto it succeeds.
			starts = append(starts[:i:i], starts[i+1:]...)
			continue
		case errors.As(err, &broken):
			return nil, nil, connectors.Fatal(err, "")
		case err != nil:
			return nil, nil, err
		case m.Start != starts[i] || m.Topic != p.Topic || m.Partition != p.Partition || m.TopicID != hex.EncodeToString(p.TopicID[:]):
			return nil, nil, connectors.Fatal(fmt.Errorf("%s holds a manifest of %s-%d at %d", name, m.Topic, m.Partition, m.Start), "")
		}
		if last == nil {
			last = m
		}
		if derr == nil {
			break
		}
		if err := place(ctx, t.target, m, name); err != nil {
			return nil, nil, err
		}
	}
	return last, starts, nil
}

// disarm moves the prepared manifests of this partition's earlier tasks into this
// task's temp folder and returns all that can be removed later (invariant 7: nothing of a later task's).
func (t *Task) disarm(ctx context.Context, p *part) (stale []string, err error) {
	dirs, err := t.target.ReadDir(ctx, tmpDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	own := lastPart(p.tmp)
	for _, d := range dirs {
		epoch, ok := tempEpoch(p.id, d.Name)
		if !ok || d.Name == own {
			continue
		}
		if epoch > t.env.Epoch {
			// This task was asleep, and that is its successor's. It will find out that it is none any more
			// when it commits; sweeping now would take files from under a commit that succeeds.
			t.log.Warn("another task has begun since to write the partition", "topic", p.Topic, "partition", p.Partition, "folder", d.Name)
			continue
		}
		dir := tmpDir + "/" + d.Name
		entries, err := t.target.ReadDir(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if !e.Dir || !strings.HasPrefix(e.Name, manifestPrefix) {
				continue
			}
			if err := t.target.MkdirAll(ctx, p.tmp); err != nil {
				return nil, err
			}
			p.touched = true
			to := fmt.Sprintf("%s/stale-%d-%06d", p.tmp, t.env.Epoch, p.seq)
			p.seq++
			err := t.target.RenameDir(ctx, dir+"/"+e.Name, to)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("move %s/%s away: %w", dir, e.Name, err)
			}
			stale = append(stale, to)
		}
		stale = append(stale, dir)
	}
	// What a run of this very task left (its Recover was called again) is as dead.
	if entries, err := t.target.ReadDir(ctx, p.tmp); err == nil {
		p.touched = true
		for _, e := range entries {
			stale = append(stale, p.tmp+"/"+e.Name)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return stale, nil
}

func lastPart(dir string) string { return dir[strings.LastIndexByte(dir, '/')+1:] }

// listCommits gives the start offsets of the partition's commits in order.
func listCommits(ctx context.Context, t Target, id string) ([]int64, error) {
	entries, err := t.ReadDir(ctx, commitDir(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var starts []int64
	for _, e := range entries {
		if s, ok := parseCommitName(e.Name); ok && e.Dir {
			starts = append(starts, s)
		}
	}
	return starts, nil
}

// checkRecreated refuses to write a topic under the name of another one that had the same name.
func (t *Task) checkRecreated(ctx context.Context, a connectors.Assignment) error {
	ids, err := t.target.ReadDir(ctx, topicsDir+"/"+a.Topic)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	own := hex.EncodeToString(a.TopicID[:])
	var dirs []Entry
	for _, id := range ids {
		if id.Name == own {
			continue
		}
		if dirs == nil {
			if dirs, err = t.target.ReadDir(ctx, commitsDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		for _, d := range dirs {
			if !strings.HasPrefix(d.Name, id.Name+"-") {
				continue
			}
			starts, err := listCommits(ctx, t.target, d.Name)
			if err != nil {
				return err
			}
			if len(starts) == 0 {
				continue
			}
			m, err := readManifest(ctx, t.target, commitName(d.Name, starts[len(starts)-1]))
			if err != nil {
				return err
			}
			return connectors.Fatal(fmt.Errorf("topic %s was deleted and created again: its id is %s now, and the target holds %s-%d of id %s up to offset %d",
				a.Topic, own, m.Topic, m.Partition, id.Name, m.Next-1),
				fmt.Sprintf("to start with the new topic, move %s and %s/%s away, or give the sink another url", a.Topic, topicsDir, a.Topic))
		}
	}
	return nil
}
