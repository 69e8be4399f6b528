package replica

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
)

// Survey tells how far each partition's log in a log directory of a stopped node reaches. As a start does it recovers logs that a crash has left; nothing else is
// changed. A log that cannot be read is told as such.
func Survey(d *Dir, o Options) (found []metadata.LogEnd, err error) {
	s := &Set{o: o}
	entries, err := o.FS.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := commitlog.NewFiles(0)
	for _, e := range entries {
		topic, number, ok := parseFolder(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		dir := path.Join(d.Path, e.Name())
		id, err := readOwner(s, dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOwner) {
			continue // it never had a record, or is set aside at the start
		}
		if err != nil {
			return nil, err
		}
		end := metadata.LogEnd{Topic: topic, ID: id, Number: number, LastEpoch: -1, MaxEpoch: -1}
		if err := surveyLog(&end, commitlog.Options{FS: o.FS, Dir: dir, Name: e.Name(), Durability: o.Durability, Ran: o.Ran, Files: files, Logger: o.Logger, Clean: d.Clean, Suspect: d.Suspect, BootID: o.BootID}); err != nil {
			end.Failed = err.Error()
		}
		found = append(found, end)
	}
	return found, nil
}

func surveyLog(end *metadata.LogEnd, o commitlog.Options) error {
	o.Syncer = commitlog.NewSyncer(1, nil)
	defer o.Syncer.Close()
	l, err := commitlog.Open(o)
	if err != nil {
		return err
	}
	end.End, end.MaxEpoch = l.EndOffset(), metadata.Epoch(l.LatestEpoch())
	if end.LastEpoch = metadata.Epoch(l.EpochAt(end.End - 1)); end.LastEpoch < 0 {
		end.LastEpoch = end.MaxEpoch
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
