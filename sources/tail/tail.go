package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Source is a configured tail source.
type Source struct {
	cfg config
	env connectors.Env
	log *slog.Logger

	mu      sync.Mutex
	kept    map[fileID]*file                // open files that no task has: the last one's, and deleted ones that the log has not forgotten yet
	durable map[connectors.PositionKey]bool // of which the log has a position
}

// New makes a source.
func New(v spec.Values, env connectors.Env) (connectors.Source, error) {
	c, err := configOf(v, env)
	if err != nil {
		return nil, err
	}
	log := env.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: c, env: env, log: log, kept: map[fileID]*file{}, durable: map[connectors.PositionKey]bool{}}, nil
}

// Validate looks whether there is anything to read. What cannot be read is a warning beside what can.
func (s *Source) Validate(context.Context) []spec.Finding {
	var out []spec.Finding
	var barred []int // findings of paths of which something cannot be read
	all := 0         // files that can be read
	for _, p := range s.cfg.paths {
		c := s.cfg
		c.paths = []string{p}
		files, blind, err := c.glob()
		if err != nil {
			out = append(out, spec.Finding{Path: "paths", Message: err.Error()})
			continue
		}
		read := 0
		for _, f := range files {
			fd, err := openFile(f.path)
			if err == nil {
				read++
				err = fd.Close()
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				blind[f.path] = err
			}
		}
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			out = append(out, spec.Finding{Path: "paths", Message: p + " is a folder, of which nothing is read", Hint: "write " + filepath.Join(p, "*"), Warning: true})
		} else if len(files)+len(blind) == 0 {
			out = append(out, spec.Finding{Path: "paths", Message: fmt.Sprintf("no file matches %s yet", p), Warning: true})
		}
		if len(blind) > 0 {
			first := slices.Min(slices.Collect(maps.Keys(blind)))
			barred = append(barred, len(out))
			out = append(out, spec.Finding{Path: "paths", Hint: "let the user that runs Forebay read it, or name it in exclude",
				Message: fmt.Sprintf("of what matches %s, %d cannot be read and %d can: %v", p, len(blind), read, blind[first])})
		}
		all += read
	}
	for _, i := range barred {
		out[i].Warning = all > 0
	}
	return out
}

// Plan names one split: the files of this host.
func (s *Source) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: "host-" + s.env.Host, Host: s.env.Host}}, nil
}

// Topics is the one topic.
func (s *Source) Topics(context.Context) ([]connectors.TopicSpec, error) {
	return []connectors.TopicSpec{{Name: s.cfg.topic, Partitions: s.cfg.partitions}}, nil
}

// Bound is there for connectors.BoundedSource: a line that is longer than its topic takes is long, whatever max_line says.
func (s *Source) Bound(bytes int) {
	s.cfg.splitter.max = max(1, min(s.cfg.maxLine, max(bytes-headerRoom, bytes/2)))
}

// Capabilities: positions are byte offsets, so a resume is exact.
func (s *Source) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

// Compare orders two positions of one file.
func (s *Source) Compare(_ connectors.PositionKey, a, b connectors.Position) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return compare(a, b)
}

// Task makes the task of a split.
func (s *Source) Task(connectors.Split) connectors.SourceTask { return newTask(s) }

// keep holds a descriptor beyond its task: while there is none, the log is away for instance, the file may be deleted, and what was
// written to it is nowhere else. Of those that can be opened again there are no more than a task may hold.
func (s *Source) keep(t *task, f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, deleted := f.unlinked(); !deleted && len(s.kept) >= t.cfg.maxOpen {
		t.shut(f)
		return
	}
	g := *f
	s.kept[f.id] = &g
	f.fd = nil
	t.opened--
}

// committed learns of which files the log has positions, and closes those whose end is durable in it.
func (s *Source) committed(positions map[connectors.PositionKey]connectors.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, p := range positions {
		if s.durable[key] = true; p == nil {
			delete(s.durable, key)
		}
	}
	for id, f := range s.kept {
		if p, ok := positions[fileKey(id)]; ok && p == nil {
			f.close()
			delete(s.kept, id)
		}
	}
}

// known says whether the log has a position of that file.
func (s *Source) known(f *file) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable[f.key()]
}

// rejoin gives a new task what the last one held open. bind holds it against the positions.
func (s *Source) rejoin(t *task, positions map[connectors.PositionKey]connectors.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range s.kept {
		f := t.files[id]
		st, err := k.fd.Stat()
		// A position that was there and is not any more was forgotten in the log's last transaction, though nobody was told. Before the
		// very first position start: end decides of all files alike.
		if err != nil || f == nil && (s.durable[fileKey(id)] || t.first && t.cfg.fromEnd) {
			k.close()
			continue
		}
		if f == nil { // nothing of it was ever committed: a copy is held as it was, and what went on for its original does so again
			f = &file{id: id, head: newSum, ident: newIdent(id), origin: k.origin, target: k.target, part: k.part}
			if k.copyOf != "" {
				f.copyOf, f.tried = k.copyOf, k.tried
			}
			t.add(f)
		}
		f.path, f.fd, f.deleted, f.active = k.path, k.fd, links(st) == 0, time.Now()
		f.sized(st.Size(), f.active)
		t.opened++
	}
	clear(s.kept)
	clear(s.durable)
	for key := range positions {
		s.durable[key] = true
	}
}

// Close lets go of what is held for the next task. The Source can be used again.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.kept {
		f.close()
	}
	clear(s.kept)
	return nil
}

// found is a file that a glob matched.
type found struct {
	path string
	id   fileID
	size int64
}

// glob lists the regular files that match, each once, and the folders and files that could not be looked at.
func (c *config) glob() (out []found, blind map[string]error, err error) {
	blind = map[string]error{}
	seen := map[fileID]bool{}
	for _, p := range c.paths {
		base, pattern := doublestar.SplitPattern(filepath.ToSlash(p))
		names, err := doublestar.Glob(eyes{fs: os.DirFS(base), base: base, blind: blind}, pattern)
		if err != nil {
			return nil, nil, fmt.Errorf("list %s: %w", p, err)
		}
		for _, n := range names {
			if n = filepath.Join(base, n); c.excluded(n) {
				continue
			}
			info, err := os.Stat(n)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					blind[n] = err
				}
				continue
			}
			id, ok := idOf(info)
			if !ok || !info.Mode().IsRegular() || seen[id] {
				continue
			}
			seen[id] = true
			out = append(out, found{path: n, id: id, size: info.Size()})
		}
	}
	return out, blind, nil
}

// eyes is the file system below base that a glob looks at. It remembers what could not be
// read: a glob takes that for empty, and goes on with the rest.
type eyes struct {
	fs    fs.FS
	base  string
	blind map[string]error
}

func (e eyes) note(name string, err error) error {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.blind[filepath.Join(e.base, name)] = err
	}
	return err
}

// Open is there for fs.FS.
func (e eyes) Open(name string) (fs.File, error) {
	f, err := e.fs.Open(name)
	return f, e.note(name, err)
}

// ReadDir lists a folder.
func (e eyes) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(e.fs, name)
	return entries, e.note(name, err)
}

// Stat looks at one name.
func (e eyes) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(e.fs, name)
	return info, e.note(name, err)
}

// match says whether a list would show a file of that path.
func (c *config) match(path string) bool {
	return !c.excluded(path) && slices.ContainsFunc(c.paths, func(p string) bool {
		ok, err := doublestar.PathMatch(p, path)
		return err == nil && ok
	})
}

func (c *config) excluded(name string) bool {
	for _, e := range c.exclude {
		against := name
		if filepath.Base(e) == e {
			against = filepath.Base(name)
		}
		if ok, err := doublestar.PathMatch(e, against); err == nil && ok {
			return true
		}
	}
	return false
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
