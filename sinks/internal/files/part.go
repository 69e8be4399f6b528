package files

import (
	"encoding/hex"
	"hash/crc32"
	"sort"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// part is a partition that this task writes. Its set is what will be one commit:
// the records from start to next, in open and closed files.
type part struct {
	connectors.Assignment
	id      string
	tmp     string
	pattern *Pattern
	touched bool // tmp was made

	start  int64     // where the last prepared commit ends
	next   int64     // one beyond the last offset seen
	since  time.Time // of the first Tick after the set's first record; zero before
	due    bool
	open   map[string]*file // by folder
	closed []*file
	seq    int

	pending []*prepared // not in place yet, oldest first
	commits []commitRef // known in the target, oldest first
}

// commitRef is a commit that the target holds.
type commitRef struct {
	start   int64
	created time.Time // zero: not read yet
}

// file is a data file that is being written or waits for its commit.
type file struct {
	part        *part
	dir         string
	temp        string
	w           summer
	enc         Encoder // nil once closed
	stored      bool    // the target has acknowledged Close
	records     int64
	first, last int64
}

// full says whether the file has reached a limit of the rotation.
func (f *file) full(r Rotate) bool {
	return r.Records > 0 && f.records >= r.Records || r.Size > 0 && f.enc.Size() >= r.Size
}

func (f *file) abort() {
	if d, ok := f.enc.(Discarder); ok {
		d.Discard()
	}
	f.enc = nil
	f.w.w.Abort()
}

// summer counts and sums what goes into a file.
type summer struct {
	w   Writer
	n   int64
	crc uint32
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	s.n += int64(n)
	return n, err
}

// prepare makes a manifest of the closed files and begins a new set behind it.
func (p *part) prepare(t *Task) *prepared {
	m := &Manifest{
		Version: ManifestVersion, Topic: p.Topic, TopicID: hex.EncodeToString(p.TopicID[:]), Partition: p.Partition,
		Start: p.start, Next: p.next,
		Sink: sinkID(t.env.Env), Task: t.env.TaskID, Epoch: t.env.Epoch, Created: time.Now().UTC(),
		Files: make([]File, 0, len(p.closed)),
	}
	for _, f := range p.closed {
		m.Files = append(m.Files, File{
			Temp: f.temp,
			Name: finalName(p.Topic, f.dir, p.Partition, f.first, f.last, t.cfg.Format.Extension()),
			Size: f.w.n, Records: f.records, First: f.first, Last: f.last, CRC32C: f.w.crc,
		})
	}
	sort.Slice(m.Files, func(i, j int) bool { return m.Files[i].First < m.Files[j].First })
	pr := &prepared{part: p, manifest: m, dir: manifestTemp(p.tmp, m.Start)}
	p.pending = append(p.pending, pr)
	p.start, p.closed, p.due, p.since, p.touched = p.next, nil, false, time.Time{}, true
	return pr
}
