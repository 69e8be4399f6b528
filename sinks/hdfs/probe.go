package hdfs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/colinmarc/hdfs/v2"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

var _ files.Prober = (*Target)(nil)

// Probe finds out whether files can be written: it makes a folder with a file of
// one byte in the nearest folder that exists, and removes both. The byte matters:
// a namenode that answers and datanodes that cannot be reached are a common pair.
func (t *Target) Probe(ctx context.Context) error {
	var random [6]byte
	_, _ = rand.Read(random[:]) // documented to never fail
	dir := ""
	err := t.doFor(ctx, 0, "write", ".", func(c *hdfs.Client, _ bool) error {
		base, err := nearest(c, t.opts.Root)
		if err != nil {
			return err
		}
		dir = path.Join(base, "_forebay-probe-"+hex.EncodeToString(random[:]))
		return c.Mkdir(dir, 0o755)
	})
	if err != nil {
		return err
	}
	defer func() {
		if c, err := t.connected(); err == nil {
			_ = c.RemoveAll(dir) // an empty folder harms nobody
		}
	}()
	w := &writer{t: t, name: dir + "/byte"}
	err = t.doFor(ctx, 0, "write", ".", func(c *hdfs.Client, _ bool) error { return w.create(c) })
	if err != nil {
		return err
	}
	if _, err = w.Write([]byte{'x'}); err == nil {
		err = w.Close()
	}
	if err != nil {
		w.Abort()
		hint := "check that datanodes run, have room, and can be reached from here; behind NAT set datanode_hostnames: true"
		return &problem.Error{Code: "hdfs-datanodes", Class: problem.Environment, Where: t.where(dir),
			What: "the namenode answers, but no byte can be stored: " + err.Error(), Hint: hint, Err: err}
	}
	return nil
}

// nearest is the folder itself, or the closest one above it that exists.
func nearest(c *hdfs.Client, dir string) (string, error) {
	for {
		info, err := c.Stat(dir)
		switch {
		case err == nil && info.IsDir():
			return dir, nil
		case err == nil:
			return "", connectors.Fatal(fmt.Errorf("%s is a file, not a folder", dir), "name another folder in the url")
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return "", err
		}
		dir = path.Dir(dir)
	}
}
