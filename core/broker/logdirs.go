package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// The names in and of log directories; docs/formats/data-directory.md describes them, core/replica/DESIGN.md has the promises.
const (
	logDirsName    = "log-dirs.json"
	placementName  = "log-placement"
	propertiesName = "meta.properties"
	newDiskName    = "new-disk"
	dirLockName    = ".lock"
	// logDirsFormat is the version of log-dirs.json.
	logDirsFormat = 1
)

// knownDir is a log directory that this node has, or had.
type knownDir struct {
	ID   string `json:"id"`
	Path string `json:"path"`
	// Failed says that a write or a sync in it has failed; it stays until the cluster was told (invariant 4).
	Failed bool `json:"failed,omitempty"`
	// Replaced says that its disk was replaced: what others have of its partitions may be copied anew.
	Replaced bool `json:"replaced,omitempty"`
}

// logDirs are the directories of log.dirs.
type logDirs struct {
	fs        vfs.FS
	data      *dataDir
	node      metadata.NodeID
	logger    *slog.Logger
	placement *replica.Placement // nil: log.dirs was never given

	dirs  []*replica.Dir
	locks []io.Closer
	fresh []string // ids of those that this start has made

	mu    sync.Mutex
	known []knownDir
}

// oneDir is the log directory of a node that never had log.dirs.
func oneDir(d *dataDir) *logDirs {
	return &logDirs{fs: d.fs, data: d, dirs: []*replica.Dir{{
		Name: d.root, Path: d.path("log"), Quarantine: d.path("quarantine"), Clean: d.clean, Suspect: d.meta.Failed,
	}}}
}

// openLogDirs opens the directories of log.dirs (nil: it is not given), of which at least one must be usable. The data directory knows its cluster.
func openLogDirs(d *dataDir, paths []string, logger *slog.Logger, failed func(error)) (_ *logDirs, err error) {
	l := &logDirs{fs: d.fs, data: d, node: d.meta.NodeID, logger: logger}
	if err := l.load(); err != nil {
		return nil, err
	}
	if paths == nil && l.known == nil {
		return oneDir(d), nil
	}
	if paths == nil {
		paths = []string{d.root}
	}
	defer func() {
		if err != nil {
			_ = l.close(false) // the first error tells more
		}
	}()
	if err := l.checkData(paths); err != nil {
		return nil, err
	}
	if l.placement, err = replica.OpenPlacement(d.fs, d.path(placementName), l.known != nil, failed); err != nil {
		return nil, &problem.Error{Code: "log-placement", Class: problem.Environment, Where: d.path(placementName), What: err.Error(), Hint: "restore the file from a copy of the data directory", Err: err}
	}
	if l.placement.Damaged() {
		logger.Error("the file is damaged or gone: until all log directories are there, partitions that are found nowhere are offline", "file", d.path(placementName))
	}
	for _, p := range paths {
		if err := l.open(p); err != nil {
			return nil, err
		}
	}
	if !slices.ContainsFunc(l.dirs, func(r *replica.Dir) bool { return r.Err == nil }) {
		return nil, l.problem("no-log-directory", l.dirs[0].Path, "mount at least one of them", "none of the log directories can be used; the first: %v", l.dirs[0].Err)
	}
	return l, l.save()
}

func (l *logDirs) problem(code, where, hint, format string, args ...any) error {
	return &problem.Error{Code: code, Class: problem.Environment, Where: where, What: fmt.Sprintf(format, args...), Hint: hint}
}

// load reads log-dirs.json.
func (l *logDirs) load() error {
	name := l.data.path(logDirsName)
	b, err := vfs.ReadFile(l.fs, name, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var file struct {
		Format int        `json:"format"`
		Dirs   []knownDir `json:"dirs"`
	}
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	switch {
	case err != nil:
		return l.problem("log-directories", name, "restore the file from a copy of the data directory", "it cannot be read: %v", err)
	case file.Format > logDirsFormat:
		return l.problem("newer-data", name, "start the newer version of forebay that wrote it", "format %d, this version knows up to %d", file.Format, logDirsFormat)
	}
	l.known = append([]knownDir{}, file.Dirs...)
	return nil
}

// save writes log-dirs.json, durably.
func (l *logDirs) save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := json.MarshalIndent(map[string]any{"format": logDirsFormat, "dirs": l.known}, "", "  ")
	if err != nil {
		return err
	}
	if was, err := vfs.ReadFile(l.fs, l.data.path(logDirsName), maxSmall); err == nil && string(was) == string(b)+"\n" {
		return nil
	}
	return writeSmall(l.fs, l.data.root, logDirsName, append(b, '\n'))
}

// checkData refuses to leave out the folder in which a node without log.dirs kept its logs.
func (l *logDirs) checkData(paths []string) error {
	own := func(p string) bool { return path.Clean(p) == path.Clean(l.data.root) }
	if l.known != nil || slices.ContainsFunc(paths, own) {
		return nil // where its partitions lie is known, or it is one of them
	}
	entries, err := l.fs.ReadDir(l.data.path("log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return l.problem("log-directory-left-out", "log.dirs", "add "+l.data.root+" to log.dirs", "%d partitions lie in %s", len(entries), l.data.path("log"))
	}
	return nil
}

// open takes one entry of log.dirs. What only the disk is to blame for is no error: the directory is offline.
func (l *logDirs) open(name string) error {
	r := &replica.Dir{Name: name, Path: path.Clean(name), Clean: true}
	r.Quarantine = path.Join(r.Path, "quarantine")
	data := r.Path == path.Clean(l.data.root)
	if data {
		r.Path, r.Quarantine, r.Clean, r.Suspect = l.data.path("log"), l.data.path("quarantine"), l.data.clean, l.data.meta.Failed
	}
	for _, other := range l.dirs {
		if other.Path == r.Path {
			return l.problem("log-directory-twice", "log.dirs", "name it once", "%s stands there twice", name)
		}
	}
	l.dirs = append(l.dirs, r)
	at := slices.IndexFunc(l.known, func(k knownDir) bool { return k.Path == r.Path && !k.Replaced })
	err := l.identify(r, at, data)
	if err == nil && r.Err == nil && !data {
		err = l.take(r)
	}
	if r.Err != nil {
		if r.ID == "" {
			r.ID = l.known[at].ID
		}
		l.logger.Error("a log directory is offline", "dir", r.Path, "id", r.ID, "err", r.Err)
	}
	return err
}

// identify finds out whose directory r is; at is what is known of its path, -1: nothing.
func (l *logDirs) identify(r *replica.Dir, at int, data bool) error {
	if at < 0 {
		err := vfs.MkdirAllSync(l.fs, r.Path, 0o755)
		if err == nil {
			err = l.fs.SyncDir(path.Dir(r.Path)) // it may have been made, and not be durable yet
		}
		if err != nil {
			return l.problem("log-directory", r.Path, "check the path and its rights", "cannot make the log directory: %v", err)
		}
	}
	b, err := vfs.ReadFile(l.fs, path.Join(r.Path, propertiesName), maxSmall)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return l.unmarked(r, at, data)
	case err != nil && at >= 0:
		r.Err = err
		return nil
	case err != nil:
		return l.problem("log-directory", r.Path, "check the disk and the rights", "cannot read %s: %v", propertiesName, err)
	}
	p, err := parseProperties(string(b))
	switch {
	case err != nil:
		return l.problem("foreign-log-directory", path.Join(r.Path, propertiesName), "give another directory in log.dirs", "%v", err)
	case p.node != l.node || p.cluster != l.data.meta.ClusterID:
		return l.problem("foreign-log-directory", r.Path, "mount this node's directory there, or give another in log.dirs",
			"it belongs to node %d of cluster %s, this is node %d of cluster %s", p.node, p.cluster, l.node, l.data.meta.ClusterID)
	}
	r.ID = p.directory
	for _, other := range l.dirs {
		if other != r && other.ID == r.ID {
			return l.problem("log-directory-twice", r.Path, "one of them is a copy: take it out of log.dirs", "%s has the same directory id, %s", other.Path, r.ID)
		}
	}
	if i := slices.IndexFunc(l.known, func(k knownDir) bool { return k.ID == r.ID }); i >= 0 {
		r.Suspect = r.Suspect || l.known[i].Failed
		l.known[i].Path, l.known[i].Replaced = r.Path, false
	} else {
		l.known = append(l.known, knownDir{ID: r.ID, Path: r.Path})
	}
	return l.believe(r, at)
}

// unmarked decides about a directory without meta.properties.
func (l *logDirs) unmarked(r *replica.Dir, at int, data bool) error {
	entries, err := l.fs.ReadDir(r.Path)
	if err != nil && at >= 0 {
		r.Err = err
		return nil
	}
	if err != nil {
		return l.problem("log-directory", r.Path, "check the disk and the rights", "cannot read it: %v", err)
	}
	empty, marked := true, false
	for _, e := range entries {
		switch e.Name() {
		case newDiskName:
			marked = true
		case "lost+found", dirLockName, propertiesName + ".new":
		default:
			empty = false
		}
	}
	switch {
	case at >= 0 && !(empty && marked):
		r.Err = fmt.Errorf("it has no %s, so it is not the directory %s that was there: is its disk mounted? If the disk was replaced, make a file %s in the empty directory",
			propertiesName, l.known[at].ID, newDiskName)
		return nil
	case !empty && !(data && l.known == nil): // a node that had no log.dirs has its logs there
		return l.problem("foreign-log-directory", r.Path, "give an empty directory in log.dirs", "it has no %s but it is not empty", propertiesName)
	}
	r.ID, r.Clean = newClusterID(), true
	l.fresh = append(l.fresh, r.ID)
	p := properties{node: l.node, cluster: l.data.meta.ClusterID, directory: r.ID}
	if err := writeSmall(l.fs, r.Path, propertiesName, []byte(p.String())); err != nil {
		return l.problem("log-directory", r.Path, "check rights and free space", "cannot write to it: %v", err)
	}
	l.known = append(l.known, knownDir{ID: r.ID, Path: r.Path})
	return l.believe(r, at)
}

// believe takes the file that says that a disk was replaced, once what it says is written down.
func (l *logDirs) believe(r *replica.Dir, at int) error {
	name := path.Join(r.Path, newDiskName)
	if _, err := l.fs.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return l.problem("log-directory", name, "check the disk", "%v", err)
	}
	if at >= 0 && l.known[at].ID != r.ID {
		l.known[at].Replaced = true
		l.logger.Warn("the disk of a log directory was replaced", "dir", r.Path, "was", l.known[at].ID, "is", r.ID)
	}
	err := l.save()
	if err == nil {
		err = l.fs.Remove(name)
	}
	if err == nil {
		err = l.fs.SyncDir(r.Path)
	}
	return err
}

// take locks a directory and takes its clean mark off.
func (l *logDirs) take(r *replica.Dir) error {
	lock, err := l.fs.Lock(path.Join(r.Path, dirLockName))
	if replica.OfDisk(err) { // as a disk that the kernel has made read-only
		r.Err = err
		return nil
	}
	if err != nil {
		return l.problem("log-directory-in-use", r.Path, "is another forebay running on it? Stop it", "cannot lock the log directory: %v", err)
	}
	l.locks = append(l.locks, lock)
	if slices.Contains(l.fresh, r.ID) {
		return nil // there is nothing to recover
	}
	mark := path.Join(r.Path, cleanName)
	_, err = l.fs.Stat(mark)
	r.Clean = err == nil
	if r.Clean {
		if err = l.fs.Remove(mark); err == nil {
			err = l.fs.SyncDir(r.Path)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.Err = err
	}
	return nil
}

// replaced are the ids of directories whose disk was replaced.
func (l *logDirs) replaced() map[string]bool {
	m := map[string]bool{}
	for _, k := range l.known {
		if k.Replaced {
			m[k.ID] = true
		}
	}
	return m
}

// check refuses to leave out a directory in which partitions of image lie, and forgets those in which none does.
func (l *logDirs) check(image *metadata.Image) error {
	if l.placement == nil {
		return nil
	}
	var keep []knownDir
	for _, k := range l.known {
		here := 0
		for _, id := range l.placement.In(k.ID) {
			if t := image.TopicIDs[id.Topic]; t != nil && int(id.Number) < len(t.Partitions) && slices.Contains(t.Partitions[id.Number].Replicas, l.node) {
				here++
			}
		}
		listed := slices.ContainsFunc(l.dirs, func(r *replica.Dir) bool { return r.ID == k.ID })
		switch {
		case !listed && !k.Replaced && here > 0:
			return l.problem("log-directory-left-out", "log.dirs", "add it again; a directory can be left out once no partition lies in it",
				"%d partitions lie in %s (directory id %s), which log.dirs does not name", here, k.Path, k.ID)
		case !listed && !k.Replaced && l.placement.Damaged():
			return l.problem("log-directory-left-out", "log.dirs", "add it again, for one start at least",
				"what lies in %s (directory id %s), which log.dirs does not name, is not known: %s is damaged or gone", k.Path, k.ID, l.data.path(placementName))
		case listed || here > 0:
			keep = append(keep, k)
		}
	}
	l.mu.Lock()
	l.known = keep
	l.mu.Unlock()
	return l.save()
}

// failed writes down that a directory has failed, or (false) that the cluster knows of all that have and are back, with all their logs.
func (l *logDirs) failed(id string, failed bool) {
	if failed && l.placement == nil || !failed && l.dataRecovered() { // log-dirs.json would say that there was a log.dirs
		if err := l.data.setFailed(failed); err != nil {
			l.logger.Error("it could not be written down whether the log directory has failed", "dir", l.data.path("log"), "failed", failed, "err", err)
		}
	}
	if l.placement == nil {
		return
	}
	l.mu.Lock()
	for i := range l.known {
		r := slices.IndexFunc(l.dirs, func(r *replica.Dir) bool { return r.ID == l.known[i].ID })
		switch {
		case failed && l.known[i].ID == id:
			l.known[i].Failed = true
		case !failed && r >= 0 && l.dirs[r].Recovered():
			l.known[i].Failed = false
		}
	}
	l.mu.Unlock()
	if err := l.save(); err != nil {
		l.logger.Error("it could not be written down which log directories have failed", "err", err)
	}
}

// clean says that every directory that is online was shut down in good order.
func (l *logDirs) clean() bool {
	return !slices.ContainsFunc(l.dirs, func(r *replica.Dir) bool { return r.Err == nil && !r.Clean })
}

// dataRecovered says that the directory in the data directory, if it is one, is online and was recovered in full.
func (l *logDirs) dataRecovered() bool {
	return !slices.ContainsFunc(l.dirs, func(r *replica.Dir) bool { return r.Path == l.data.path("log") && !r.Recovered() })
}

// close marks the directories that are online, and were recovered in full, as clean, if told so, and unlocks them.
func (l *logDirs) close(mark bool) error {
	var errs []error
	if mark && l.placement != nil {
		for _, r := range l.dirs {
			if !r.Recovered() || r.Err != nil || r.Path == l.data.path("log") {
				continue
			}
			if err := writeSmall(l.fs, r.Path, cleanName, []byte("version: 0\n")); err != nil {
				l.logger.Warn("a log directory could not be marked as clean: the next start will recover it", "dir", r.Path, "err", err)
			}
		}
	}
	for _, lock := range l.locks {
		errs = append(errs, lock.Close())
	}
	l.locks = nil
	return errors.Join(errs...)
}

// properties are Kafka's meta.properties, version 1, with the directory.id of KIP-858.
type properties struct {
	node      metadata.NodeID
	cluster   string
	directory string
}

func (p properties) String() string {
	return fmt.Sprintf("cluster.id=%s\ndirectory.id=%s\nnode.id=%d\nversion=1\n", p.cluster, p.directory, p.node)
}

func parseProperties(text string) (p properties, err error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	node, err := strconv.ParseInt(values["node.id"], 10, 32)
	p = properties{metadata.NodeID(node), values["cluster.id"], values["directory.id"]}
	if values["version"] != "1" || err != nil || p.cluster == "" || p.directory == "" || strings.ContainsAny(p.directory, " \t") || len(p.directory) > 64 {
		return p, fmt.Errorf("it is not a %s of version 1 with a directory.id: %.100q", propertiesName, text)
	}
	return p, nil
}

// splitDirs is the value of log.dirs.
func splitDirs(v string) (list []string) {
	for _, p := range strings.Split(v, ",") {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list
}
