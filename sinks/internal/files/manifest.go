package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ManifestVersion is the version of the manifest's format that this build
// writes. It reads this one and older ones.
const ManifestVersion = 1

// Manifest is one commit: a contiguous range of offsets of one partition and
// the files that hold its records. It exists, whole, or it does not: its folder
// appears by one rename.
type Manifest struct {
	Version   int       `json:"version"`
	Topic     string    `json:"topic"`
	TopicID   string    `json:"topic_id"`
	Partition int32     `json:"partition"`
	Start     int64     `json:"start_offset"` // where the predecessor ended
	Next      int64     `json:"next_offset"`  // where the successor starts
	Sink      string    `json:"sink"`         // group/name of the sink that wrote it
	Task      string    `json:"task"`         // unique to one start of a task
	Epoch     int64     `json:"epoch"`
	Created   time.Time `json:"created"`
	Files     []File    `json:"files"` // none when the range held only tombstones, rejects or transaction markers
}

// File is one data file of a commit.
type File struct {
	Temp    string `json:"temp"`
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	Records int64  `json:"records"`
	First   int64  `json:"first_offset"`
	Last    int64  `json:"last_offset"`
	CRC32C  uint32 `json:"crc32c"` // of the file's bytes as stored
}

// maxManifest bounds the manifest that is read back: maxSetFiles files and then some.
const maxManifest = 8 << 20

// errNoManifest says that a commit's folder is not there, or empty: nothing was committed under its name.
var errNoManifest = errors.New("no manifest")

func readManifest(ctx context.Context, t Target, dir string) (*Manifest, error) {
	name := dir + "/" + manifestFile
	r, err := t.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoManifest
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, &manifestError{fmt.Errorf("%s: %w", name, err)}
	}
	return m, nil
}

// manifestError marks a manifest whose bytes are wrong: no retry mends it.
type manifestError struct{ err error }

func (e *manifestError) Error() string { return e.err.Error() }
func (e *manifestError) Unwrap() error { return e.err }

func parseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m.Version < 1 || m.Version > ManifestVersion {
		return nil, fmt.Errorf("format version %d; this build reads up to %d", m.Version, ManifestVersion)
	}
	if m.Start < 0 || m.Next <= m.Start {
		return nil, fmt.Errorf("offsets %d to %d are no range", m.Start, m.Next)
	}
	for _, f := range m.Files {
		if !safeName(f.Temp) || !safeName(f.Name) {
			return nil, fmt.Errorf("file name %q or %q leaves the target's folder", f.Temp, f.Name)
		}
		if f.First < m.Start || f.Last >= m.Next || f.First > f.Last {
			return nil, fmt.Errorf("file %s lies outside of offsets %d to %d", f.Name, m.Start, m.Next-1)
		}
	}
	return &m, nil
}

func safeName(name string) bool {
	return name != "" && !strings.HasPrefix(name, "/") && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../")
}

// writeFile creates name with data, whole, or gives an error.
func writeFile(ctx context.Context, t Target, name string, data []byte) error {
	w, err := t.Create(ctx, name)
	if err != nil {
		return err
	}
	if _, err = w.Write(data); err == nil {
		err = w.Close()
	}
	if err != nil {
		w.Abort()
	}
	return err
}
