package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// Pruning keeps the newest manifests and all young ones. A commit first looks
// whether its predecessor's manifest is still there: manifests go oldest first,
// so a task that slept long enough for its own start offset to be pruned finds
// its predecessor gone too, and stops. Only the rename that was already under way could
// slip past this look, and no request stays under way for a day.
const (
	keepManifests = 64
	keepAge       = 24 * time.Hour
	pruneAtOnce   = 8 // so that no commit waits long
)

// manifestPrefix begins the names of folders in a task's temp folder that hold a manifest.
const manifestPrefix = "commit-"

func manifestTemp(tmp string, start int64) string {
	return fmt.Sprintf("%s/%s%020d", tmp, manifestPrefix, start)
}

func (t *Task) writeManifest(ctx context.Context, pr *prepared) error {
	data, err := json.Marshal(pr.manifest)
	if err == nil {
		err = writeFile(ctx, t.target, pr.dir+"/"+manifestFile, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the manifest of %s-%d at %d: %w", pr.manifest.Topic, pr.manifest.Partition, pr.manifest.Start, err)
	}
	return nil
}

// Commit makes a prepared commit the successor of the last one, or fails if
// another task has done so, and moves its files into place. It may be called again after an error.
func (t *Task) Commit(ctx context.Context, token connectors.Token) error {
	pr, ok := token.Data.(*prepared)
	if !ok {
		return fmt.Errorf("commit of %s-%d: not a token of this sink", token.Topic, token.Partition)
	}
	p, m := pr.part, pr.manifest
	if pr.finished {
		return nil
	}
	if p.pending[0] != pr {
		return fmt.Errorf("commit of %s-%d at %d before the one at %d", p.Topic, p.Partition, m.Start, p.pending[0].manifest.Start)
	}
	if !pr.won {
		if err := t.rename(ctx, pr); err != nil {
			return err
		}
		pr.won = true
	}
	if err := place(ctx, t.target, m, commitName(p.id, m.Start)); err != nil {
		return err
	}
	pr.finished = true
	p.pending = p.pending[1:]
	p.commits = append(p.commits, commitRef{start: m.Start, created: m.Created})
	t.prune(ctx, p)
	return nil
}

// rename is the compare-and-set of the commit.
func (t *Task) rename(ctx context.Context, pr *prepared) error {
	p, m := pr.part, pr.manifest
	name := commitName(p.id, m.Start)
	if err := t.mayCommit(ctx, pr); err != nil {
		return err
	}
	// Invariant 7: a task whose lease has run out makes nothing visible.
	if err := t.alive(); err != nil {
		return err
	}
	pr.tried = true
	err := t.target.RenameDir(ctx, pr.dir, name)
	if err == nil {
		return nil
	}
	// The rename may have happened although its answer is an error: the manifest says who won.
	switch won, rerr := readManifest(ctx, t.target, name); {
	case rerr == nil && won.Task == m.Task:
		return nil
	case rerr == nil:
		return t.fenced(p, won)
	case !errors.Is(rerr, errNoManifest):
		return errors.Join(err, rerr)
	}
	return fmt.Errorf("commit %s-%d at %d: %w", p.Topic, p.Partition, m.Start, err)
}

// mayCommit refuses a task that slept through so many commits of others that the name it competes for is free again.
func (t *Task) mayCommit(ctx context.Context, pr *prepared) error {
	p := pr.part
	if n := len(p.commits); n > 0 {
		last := commitName(p.id, p.commits[n-1].start)
		if _, err := t.target.Stat(ctx, last); errors.Is(err, fs.ErrNotExist) {
			return connectors.Fatal(fmt.Errorf("%s-%d: the manifest %s is gone: other tasks have committed since, or somebody removed it",
				p.Topic, p.Partition, last), "")
		} else if err != nil {
			return fmt.Errorf("look at %s: %w", last, err)
		}
		return nil
	}
	starts, err := listCommits(ctx, t.target, p.id)
	if err != nil {
		return err
	}
	if n := len(starts); n > 0 && starts[n-1] > pr.manifest.Start {
		m, err := readManifest(ctx, t.target, commitName(p.id, starts[n-1]))
		if err != nil {
			return err
		}
		return t.fenced(p, m)
	}
	if err := t.target.MkdirAll(ctx, topicsDir+"/"+p.Topic+"/"+pr.manifest.TopicID); err != nil {
		return err
	}
	return t.target.MkdirAll(ctx, commitDir(p.id))
}

func (t *Task) fenced(p *part, m *Manifest) error {
	err := fmt.Errorf("%s-%d: task %s (epoch %d) of sink %s has committed offsets %d to %d; this task is fenced",
		p.Topic, p.Partition, m.Task, m.Epoch, m.Sink, m.Start, m.Next-1)
	if own := sinkID(t.env.Env); m.Sink != own { // no zombie of ours
		return connectors.Fatal(err, fmt.Sprintf("sinks %s and %s write the same topic under the same url: give one of them another url", own, m.Sink))
	}
	return connectors.Fenced(err, "")
}

func (t *Task) alive() error {
	if t.env.Alive == nil {
		return nil
	}
	if err := t.env.Alive(); err != nil {
		return fmt.Errorf("the task's lease has run out: %w", err)
	}
	return nil
}

// place moves a committed manifest's files to their names, or finds them there,
// and notes that it is done: what happens to the files later is their readers' business.
func place(ctx context.Context, t Target, m *Manifest, commit string) error {
	made := map[string]bool{}
	for _, f := range m.Files {
		if dir := path.Dir(f.Name); !made[dir] {
			if err := t.MkdirAll(ctx, dir); err != nil {
				return err
			}
			made[dir] = true
		}
		err := t.RenameFile(ctx, f.Temp, f.Name)
		if err == nil {
			continue
		}
		e, ferr := t.Stat(ctx, f.Name)
		_, terr := t.Stat(ctx, f.Temp)
		if errors.Is(terr, fs.ErrNotExist) {
			switch {
			case ferr == nil && e.Size == f.Size:
				continue // moved before
			case ferr == nil:
				return connectors.Fatal(fmt.Errorf("%s: committed file %s has %d bytes, not %d: somebody replaced it", commit, f.Name, e.Size, f.Size),
					"to leave it as it is, create an empty file "+commit+"/"+doneFile)
			case errors.Is(ferr, fs.ErrNotExist):
				return connectors.Fatal(fmt.Errorf("%s: committed file %s (offsets %d to %d) is neither in its place nor at %s",
					commit, f.Name, f.First, f.Last, f.Temp),
					"put the file back, or accept its loss by creating an empty file "+commit+"/"+doneFile)
			}
		}
		return fmt.Errorf("move %s to %s: %w", f.Temp, f.Name, err)
	}
	if err := writeFile(ctx, t, commit+"/"+doneFile, nil); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("mark %s as done: %w", commit, err)
	}
	return nil
}

// prune removes manifests that no paused task can compete with any more. What
// fails is tried again at the next commit.
func (t *Task) prune(ctx context.Context, p *part) {
	for range pruneAtOnce {
		if len(p.commits) <= keepManifests {
			return
		}
		oldest := &p.commits[0]
		name := commitName(p.id, oldest.start)
		if oldest.created.IsZero() {
			m, err := readManifest(ctx, t.target, name)
			switch {
			case errors.Is(err, errNoManifest): // removed by a task before us, but not in whole
			case err != nil:
				t.log.Warn("an old manifest cannot be read and stays", "manifest", name, "error", err)
				return
			default:
				oldest.created = m.Created
			}
		}
		if time.Since(oldest.created) < keepAge {
			return
		}
		if err := t.target.Remove(ctx, name); err != nil {
			t.log.Warn("an old manifest stays", "manifest", name, "error", err)
			return
		}
		p.commits = p.commits[1:]
	}
}
