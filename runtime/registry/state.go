package registry

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// state is what the records of the topic up to one offset say: pure, no clock, no I/O.
type state struct {
	subjects map[string][]*schemaValue // by version, rising
	ids      map[int][]*schemaValue    // every version that has an id, soft-deleted ones too
	same     map[identity]int          // the id of a schema
	configs  map[string]configValue    // "" is the global one
	modes    map[string]string
	last     int // the highest id that was ever given
}

func newState() *state {
	return &state{subjects: map[string][]*schemaValue{}, ids: map[int][]*schemaValue{}, same: map[identity]int{},
		configs: map[string]configValue{}, modes: map[string]string{}}
}

// identity is the same for schemas that share an id: type, text, references and what a data contract says. Confluent's MD5.ofSchema leaves the type out.
type identity [sha256.Size]byte

func (v *schemaValue) identity() identity {
	h := sha256.New()
	part := func(s string) { h.Write([]byte(strconv.Itoa(len(s)) + ":" + s)) }
	part(v.kind())
	part(v.Schema)
	for _, r := range v.References {
		part(r.Name)
		part(r.Subject)
		part(strconv.Itoa(r.Version))
	}
	part(string(v.Metadata))
	part(string(v.RuleSet))
	return identity(h.Sum(nil))
}

// kind is the schema's type; AVRO is not written out.
func (v *schemaValue) kind() string {
	if v.Type == "" {
		return Avro
	}
	return v.Type
}

// apply takes in one record. An error says that it cannot be read; it has then changed nothing.
func (s *state) apply(keyBytes, valueBytes []byte) error {
	k, err := parseKey(keyBytes)
	if err != nil || k == nil {
		return err
	}
	if valueBytes == nil {
		switch k.Type {
		case keySchema:
			s.remove(k.Subject, k.Version)
		case keyConfig:
			delete(s.configs, k.Subject)
		case keyMode:
			delete(s.modes, k.Subject)
		}
		return nil
	}
	switch k.Type {
	case keySchema:
		var v schemaValue
		if err := json.Unmarshal(valueBytes, &v); err != nil {
			return fmt.Errorf("value of subject %q version %d: %w", k.Subject, k.Version, err)
		}
		v.Subject, v.Version = k.Subject, k.Version
		v.References = s.pinned(v.References) // older registries wrote -1
		if v.Type == Avro {
			v.Type = ""
		}
		s.put(&v)
	case keyConfig:
		var v configValue
		if err := json.Unmarshal(valueBytes, &v); err != nil {
			return fmt.Errorf("config of subject %q: %w", k.Subject, err)
		}
		s.configs[k.Subject] = v
	case keyMode:
		var v modeValue
		if err := json.Unmarshal(valueBytes, &v); err != nil {
			return fmt.Errorf("mode of subject %q: %w", k.Subject, err)
		}
		s.modes[k.Subject] = v.Mode
	case keyDeleteSubject:
		var v deleteValue
		if err := json.Unmarshal(valueBytes, &v); err != nil {
			return fmt.Errorf("deletion of subject %q: %w", k.Subject, err)
		}
		for i, have := range s.subjects[k.Subject] {
			if have.Version <= v.Version && !have.Deleted {
				gone := *have
				gone.Deleted = true
				s.replace(k.Subject, i, &gone)
			}
		}
	case keyNoop:
		var v highestValue
		if err := json.Unmarshal(valueBytes, &v); err != nil {
			return fmt.Errorf("highest id: %w", err)
		}
		s.last = max(s.last, v.ID)
	case keyClearSubject:
		for _, have := range slices.Clone(s.subjects[k.Subject]) {
			if have.Deleted {
				s.remove(have.Subject, have.Version)
			}
		}
	}
	return nil
}

func (s *state) find(subject string, version int) (int, bool) {
	return slices.BinarySearchFunc(s.subjects[subject], version, func(v *schemaValue, n int) int { return v.Version - n })
}

// put takes in a version, new or changed. One whose id belongs to another schema is left out, as Confluent's registry leaves it out: an id must mean one schema.
func (s *state) put(v *schemaValue) {
	for _, other := range s.ids[v.ID] {
		if other.Schema != v.Schema && (other.Subject != v.Subject || other.Version != v.Version) {
			return
		}
	}
	s.last = max(s.last, v.ID)
	i, have := s.find(v.Subject, v.Version)
	if have {
		s.forget(s.subjects[v.Subject][i])
		s.subjects[v.Subject][i] = v
	} else {
		s.subjects[v.Subject] = slices.Insert(s.subjects[v.Subject], i, v)
	}
	s.index(v)
}

func (s *state) replace(subject string, i int, v *schemaValue) {
	s.forget(s.subjects[subject][i])
	s.subjects[subject][i] = v
	s.index(v)
}

func (s *state) index(v *schemaValue) {
	s.ids[v.ID] = append(s.ids[v.ID], v)
	if _, have := s.same[v.identity()]; !have {
		s.same[v.identity()] = v.ID
	}
}

// forget takes a version out of the indexes.
func (s *state) forget(v *schemaValue) {
	left := slices.DeleteFunc(s.ids[v.ID], func(o *schemaValue) bool { return o == v })
	if len(left) > 0 {
		s.ids[v.ID] = left
	} else {
		delete(s.ids, v.ID)
	}
	id := v.identity()
	if s.same[id] == v.ID && !slices.ContainsFunc(left, func(o *schemaValue) bool { return o.identity() == id }) {
		delete(s.same, id)
	}
}

func (s *state) remove(subject string, version int) {
	i, have := s.find(subject, version)
	if !have {
		return
	}
	s.forget(s.subjects[subject][i])
	if all := slices.Delete(s.subjects[subject], i, i+1); len(all) > 0 {
		s.subjects[subject] = all
	} else {
		delete(s.subjects, subject)
	}
}

// versions are a subject's, rising; soft-deleted ones only when asked for.
func (s *state) versions(subject string, deleted bool) (out []*schemaValue) {
	for _, v := range s.subjects[subject] {
		if deleted || !v.Deleted {
			out = append(out, v)
		}
	}
	return out
}

// get is one version; latest is the last one that is not deleted. nil: there is none.
func (s *state) get(subject string, version int, deleted bool) *schemaValue {
	if version == latest {
		all := s.versions(subject, false)
		if len(all) == 0 && deleted {
			all = s.versions(subject, true)
		}
		if len(all) == 0 {
			return nil
		}
		return all[len(all)-1]
	}
	i, have := s.find(subject, version)
	if !have || s.subjects[subject][i].Deleted && !deleted {
		return nil
	}
	return s.subjects[subject][i]
}

// names are the subjects with a prefix, by name.
func (s *state) names(prefix string, want func(*schemaValue) bool) []string {
	out := []string{}
	for _, name := range slices.Sorted(maps.Keys(s.subjects)) {
		if strings.HasPrefix(name, prefix) && slices.ContainsFunc(s.subjects[name], want) {
			out = append(out, name)
		}
	}
	return out
}

// referrers are the schemas that reference a version, soft-deleted ones only when asked for.
func (s *state) referrers(subject string, version int, deleted bool) (out []*schemaValue) {
	for _, name := range slices.Sorted(maps.Keys(s.subjects)) {
		for _, v := range s.versions(name, deleted) {
			if slices.ContainsFunc(v.References, func(r Reference) bool {
				if r.Subject != subject {
					return false
				}
				if r.Version != latest {
					return r.Version == version
				}
				last := s.get(subject, latest, false)
				return last != nil && last.Version == version
			}) {
				out = append(out, v)
			}
		}
	}
	return out
}

// level is the compatibility level in force for a subject.
func (s *state) level(subject string) string {
	for _, at := range []string{subject, ""} {
		if c, have := s.configs[at]; have && c.Level != "" {
			return c.Level
		}
	}
	return defaultLevel
}

func (s *state) normalize(subject string) bool {
	for _, at := range []string{subject, ""} {
		if c, have := s.configs[at]; have && c.Normalize != nil {
			return *c.Normalize
		}
	}
	return false
}

// mode is the mode in force for a subject.
func (s *state) mode(subject string) string {
	for _, at := range []string{subject, ""} {
		if m, have := s.modes[at]; have {
			return m
		}
	}
	return readWrite
}
