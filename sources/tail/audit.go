package tail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
)

// AuditPoint fixes the files that match now, each up to its last complete line.
//
// A line is known by host, file and offset. The file's identity stands in its position, for
// it is older than its present name; so Rows needs Reached. Lines in the log
// whose file is gone have no row here.
func (s *Source) AuditPoint(context.Context) (connectors.AuditPoint, error) {
	matches, blind, err := s.cfg.glob()
	if err != nil {
		return nil, err
	}
	if len(blind) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(blind)))
		return nil, fmt.Errorf("an audit has to see all files: %s: %w", name, blind[name])
	}
	p := &auditPoint{src: s, positions: map[connectors.PositionKey]connectors.Position{}}
	for _, m := range matches {
		if err := p.add(m); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

type auditPoint struct {
	src       *Source
	files     []auditFile
	positions map[connectors.PositionKey]connectors.Position
	reached   map[fileID]position
}

// Reached takes on the positions under which the files were read.
func (p *auditPoint) Reached(positions map[connectors.PositionKey]connectors.Position) error {
	p.reached = make(map[fileID]position, len(positions))
	for key, at := range positions {
		if key == startKey {
			continue
		}
		pos, err := parsePosition(at)
		if err != nil {
			return err
		}
		p.reached[fileID{pos.Dev, pos.Inode}] = pos
	}
	return nil
}

// auditFile is a file with the end of its last record at the point. Few are held
// open: the others are opened by name, and are gone if another file has it then.
type auditFile struct {
	found
	end int64
	fd  *os.File
}

func (p *auditPoint) add(m found) error {
	fd, err := openFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			_ = fd.Close() // it was only read
		}
	}()
	st, err := fd.Stat()
	if err != nil {
		return err
	}
	if id, ok := idOf(st); !ok || id != m.id {
		return nil
	}
	m.size = st.Size()
	begin := make([]byte, 16)
	if n, _ := fd.ReadAt(begin, 0); compressed(begin[:n]) {
		return nil
	}
	end, err := p.src.cfg.walk(fd, 0, m.size, func([]byte, int64) error { return nil })
	if err != nil || end == 0 {
		return err
	}
	a := auditFile{found: m, end: end}
	if len(p.files) < p.src.cfg.maxOpen {
		a.fd, keep = fd, true
	}
	p.files = append(p.files, a)
	pos, err := json.Marshal(position{V: positionVersion, Path: m.path, Dev: m.id.dev, Inode: m.id.ino, Gen: -1, Offset: end})
	if err != nil {
		return err
	}
	p.positions[fileKey(m.id)] = pos
	return nil
}

// Positions are the ends of the files.
func (p *auditPoint) Positions() map[connectors.PositionKey]connectors.Position { return p.positions }

// Topics is the one topic.
func (p *auditPoint) Topics() []string { return []string{p.src.cfg.topic} }

// Rows reads again all lines that were read from the files that still are what they were.
func (p *auditPoint) Rows(ctx context.Context, topic string, fn func(connectors.Record) error) error {
	host := []byte(p.src.env.Host)
	for i := range p.files {
		a := &p.files[i]
		at, ok := p.reached[a.id]
		if !ok || at.CopyOf != "" {
			continue // the lines of a copy are its original's
		}
		fd := a.fd
		if fd == nil {
			var err error
			if fd, err = openFile(a.path); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
		}
		if !isFile(fd, a.id) {
			p.shut(a, fd) // another file has the name now
			continue
		}
		st, err := fd.Stat()
		if err == nil {
			err = fileOf(at).verify(fd, st.Size())
		}
		if errors.Is(err, errChanged) {
			p.shut(a, fd) // truncated since: what was there is gone
			continue
		}
		if err != nil {
			p.shut(a, fd)
			return err
		}
		path, file := []byte(a.path), []byte(at.File)
		_, err = p.src.cfg.walk(fd, at.From, a.end, func(value []byte, at int64) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return fn(connectors.Record{Topic: topic, Partition: -1, RawValue: value, Headers: []connectors.Header{
				{Key: "host", Value: host}, {Key: "path", Value: path}, {Key: "offset", Value: strconv.AppendInt(nil, at, 10)}, {Key: "file", Value: file}}})
		})
		p.shut(a, fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// shut closes fd, unless the point keeps it.
func (p *auditPoint) shut(a *auditFile, fd *os.File) {
	if a.fd == nil {
		_ = fd.Close() // it was only read
	}
}

func (p *auditPoint) close() {
	for i := range p.files {
		if p.files[i].fd != nil {
			_ = p.files[i].fd.Close() // it was only read
			p.files[i].fd = nil
		}
	}
}

// Close lets go of the files.
func (p *auditPoint) Close() error {
	p.close()
	return nil
}

// walk gives a file's records from at up to size, and returns where the last one ends.
func (c *config) walk(fd *os.File, at, size int64, fn func(value []byte, at int64) error) (int64, error) {
	buf := make([]byte, max(chunkSize, c.splitter.window()))
	sk := skipNone
	for at < size {
		data := buf[:min(int64(len(buf)), size-at)]
		if err := readFull(fd, data, at); errors.Is(err, errChanged) {
			return at, nil // truncated meanwhile
		} else if err != nil {
			return at, err
		}
		m := moreComes
		if at+int64(len(data)) == size {
			m = moreLater // a multiline record that nothing was added to
		}
		used := 0
		for used < len(data) {
			value, n, after := c.splitter.next(data[used:], sk, m)
			if n == 0 {
				break
			}
			if value != nil {
				if err := fn(value, at+int64(used)); err != nil {
					return at, err
				}
			}
			used, sk = used+n, after
		}
		if used == 0 && sk == skipNone && hollow(data) {
			next, found := at, false
			for !found && next < size {
				var err error
				if next, found, err = behind(fd, data, next, size); errors.Is(err, errChanged) {
					return at, nil
				} else if err != nil {
					return at, err
				}
			}
			if found {
				used = int(next - at)
			}
		}
		if used == 0 {
			break
		}
		at += int64(used)
	}
	return at, nil
}
