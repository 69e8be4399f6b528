package registry

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// latest is the version that stands for a subject's last one.
const latest = -1

// maxSchema bounds a record: topics take a little more than a million bytes unless told otherwise.
const maxSchema = 900_000

// request is the body of whoever brings a schema: Confluent's RegisterSchemaRequest.
type request struct {
	Version *int32 `json:"version"`
	ID      *int32 `json:"id"`
	content
}

// subjectOf takes off the name of the default context and refuses the others.
func subjectOf(name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, ":.:"); ok {
		name = rest
	}
	switch {
	case foreign(name) || strings.HasPrefix(name, ":*:"):
		return "", fail(codeInvalidSubject, "The specified subject '%s' is in a context; this registry has only the default one.", name)
	case name == "__GLOBAL" || name == "__EMPTY" || name == "" || strings.ContainsFunc(name, unicode.IsControl):
		return "", fail(codeInvalidSubject, "The specified subject '%s' is not a valid.", name)
	}
	return name, nil
}

// brought makes a version of a request, with the canonical text, and parses it.
func (s *state) brought(subject string, q *request, r rules) (*schemaValue, schema, error) {
	if given(q.Metadata) || given(q.RuleSet) {
		return nil, nil, fail(codeUnprocessable, "This registry keeps no metadata and no rule sets of data contracts")
	}
	v := &schemaValue{Subject: subject, content: content{Type: strings.ToUpper(q.Type), References: s.pinned(q.References), Schema: q.Schema}}
	if v.Type == Avro {
		v.Type = ""
	}
	if !slices.Contains(types, v.kind()) {
		return nil, nil, fail(codeInvalidSchema, "Invalid schema type %s", q.Type)
	}
	if strings.TrimSpace(q.Schema) == "" {
		return nil, nil, fail(codeInvalidSchema, "Empty schema")
	}
	for _, ref := range v.References {
		if _, err := subjectOf(ref.Subject); err != nil {
			return nil, nil, err
		}
		if ref.Name == "" || ref.Version < 1 && ref.Version != latest {
			return nil, nil, fail(codeInvalidSchema, "Invalid schema reference: a name, a subject and a version are needed")
		}
	}
	r.normalize = r.normalize || s.normalize(subject)
	parsed, err := s.parse(v, r)
	if err != nil {
		return nil, nil, invalidSchema(err)
	}
	v.Schema = parsed.canonical()
	if len(v.Schema) > maxSchema {
		return nil, nil, fail(codeTooLarge, "The schema has %d bytes; at most %d are kept", len(v.Schema), maxSchema)
	}
	return v, parsed, nil
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// match is the newest version of a subject that is the same schema; nil: none.
func (s *state) match(v *schemaValue, deleted bool) *schemaValue {
	for _, have := range slices.Backward(s.versions(v.Subject, deleted)) {
		if have.kind() == v.kind() && have.Schema == v.Schema && slices.Equal(have.References, v.References) {
			return have
		}
	}
	return nil
}

// lookup is POST /subjects/{subject}.
func (s *state) lookup(subject string, q *request, normalize, deleted bool) (*schemaValue, error) {
	v, _, err := s.brought(subject, q, rules{normalize: normalize})
	if err != nil {
		return nil, err
	}
	if found := s.match(v, deleted); found != nil {
		return found, nil
	}
	if len(s.versions(subject, deleted)) == 0 {
		return nil, subjectNotFound(subject)
	}
	return nil, schemaNotFound()
}

// register decides on POST /subjects/{subject}/versions: which version a schema is, and the records that make it so; none when it is there already.
func (s *state) register(subject string, q *request, normalize, force bool) (*schemaValue, []hublog.KeyValue, error) {
	version, id := 0, -1
	if q.Version != nil {
		version = int(*q.Version)
	}
	if q.ID != nil {
		id = int(*q.ID)
	}
	v, parsed, err := s.brought(subject, q, rules{new: id < 0, normalize: normalize})
	if err != nil {
		return nil, nil, err
	}
	if have := s.match(v, false); have != nil && (id < 0 || id == have.ID) && (version <= 0 || version == have.Version && id >= 0) {
		return have, nil, nil
	}
	mode := s.mode(subject)
	switch {
	case isReadOnly(mode):
		return nil, nil, readOnly(subject)
	case id >= 0 && mode != importing:
		return nil, nil, fail(codeNotPermitted, "Subject %s in context  is not in import mode", subject)
	case id < 0 && mode != readWrite:
		return nil, nil, fail(codeNotPermitted, "Subject %s in context  is not in read-write mode", subject)
	}
	all := s.versions(subject, true)
	next := 1
	if len(all) > 0 {
		next = all[len(all)-1].Version + 1
	}
	if same, have := s.same[v.identity()]; have && id < 0 {
		id = same
	}
	if mode != importing && !force {
		why, err := s.compatible(subject, parsed, v.kind(), s.versions(subject, false))
		if err != nil {
			return nil, nil, err
		}
		if len(why) > 0 {
			return nil, nil, fail(codeIncompatible, "Schema being registered is incompatible with an earlier schema for subject \"%s\", details: [%s]",
				subject, strings.Join(why, ", "))
		}
	}
	if v.Version = version; version <= 0 {
		v.Version = next
	} else if version != next && mode != importing {
		return nil, nil, invalidSchema(fmt.Errorf("version %d is not one more than the previous version", version))
	}
	if id < 0 {
		if id = s.last + 1; id > math.MaxInt32 { // messages have them in four bytes
			return nil, nil, fail(codeStore, "No id is left after %d", s.last)
		}
	} else if slices.ContainsFunc(s.ids[id], func(o *schemaValue) bool { return o.identity() != v.identity() }) {
		return nil, nil, fail(codeNotPermitted, "Overwrite new schema with id %d is not permitted.", id)
	}
	v.ID = id
	records, err := s.registered(v, all)
	return v, records, err
}

// registered are the records of a new version. Soft-deleted ones of the same id go: the schema is back. One that an import overwrites is gone as well.
func (s *state) registered(v *schemaValue, all []*schemaValue) (records []hublog.KeyValue, err error) {
	var gone []int
	over := false
	for _, old := range all {
		if old.Deleted && old.ID == v.ID && old.Version < v.Version && len(s.referrers(old.Subject, old.Version, true)) == 0 {
			gone = append(gone, old.Version)
		}
		over = over || old.Version == v.Version && old.ID != v.ID
	}
	if over || len(gone) > 0 {
		if records, err = s.purge(v.Subject, gone, false); err != nil {
			return nil, err
		}
	}
	r, err := schemaRecord(v)
	return append(records, r), err
}

// check decides on POST /compatibility/subjects/{subject}/versions and …/versions/{version}: against one version, or all when version is 0.
func (s *state) check(subject string, q *request, version int, normalize bool) ([]string, error) {
	var earlier []*schemaValue
	if version == 0 {
		earlier = s.versions(subject, false)
	} else if v := s.get(subject, version, false); v != nil {
		earlier = []*schemaValue{v}
	} else if version != latest {
		return nil, versionNotFound(version)
	}
	v, parsed, err := s.brought(subject, q, rules{new: true, normalize: normalize})
	if err != nil {
		return nil, err
	}
	return s.compatible(subject, parsed, v.kind(), earlier)
}

// deleteVersion decides on DELETE /subjects/{subject}/versions/{version}.
func (s *state) deleteVersion(subject string, version int, permanent bool) (int, []hublog.KeyValue, error) {
	v := s.get(subject, version, true)
	switch {
	case len(s.subjects[subject]) == 0:
		return 0, nil, subjectNotFound(subject)
	case v == nil:
		return 0, nil, versionNotFound(version)
	case !permanent && v.Deleted:
		return 0, nil, fail(codeVersionDeleted, "Subject '%s' Version %d was soft deleted.Set permanent=true to delete permanently", subject, version)
	case isReadOnly(s.mode(subject)):
		return 0, nil, readOnly(subject)
	case len(s.referrers(subject, v.Version, permanent)) > 0:
		return 0, nil, referenced(subject, v.Version)
	case permanent && !v.Deleted:
		return 0, nil, fail(codeVersionNotDeleted, "Subject '%s' Version %d was not deleted first before being permanently deleted", subject, v.Version)
	}
	if !permanent {
		gone := *v
		gone.Deleted = true
		r, err := schemaRecord(&gone)
		return v.Version, []hublog.KeyValue{r}, err
	}
	records, err := s.purge(subject, []int{v.Version}, len(s.subjects[subject]) == 1)
	return v.Version, records, err
}

// deleteSubject decides on DELETE /subjects/{subject}.
func (s *state) deleteSubject(subject string, permanent bool) ([]int, []hublog.KeyValue, error) {
	switch {
	case len(s.subjects[subject]) == 0:
		return nil, nil, subjectNotFound(subject)
	case !permanent && len(s.versions(subject, false)) == 0:
		return nil, nil, fail(codeSubjectDeleted, "Subject '%s' was soft deleted.Set permanent=true to delete permanently", subject)
	case isReadOnly(s.mode(subject)):
		return nil, nil, readOnly(subject)
	}
	numbers := []int{}
	for _, v := range s.versions(subject, permanent) {
		if slices.ContainsFunc(s.referrers(subject, v.Version, permanent), func(by *schemaValue) bool { return by.Subject != subject }) {
			return nil, nil, referenced(subject, v.Version)
		}
		if permanent && !v.Deleted {
			return nil, nil, fail(codeSubjectNotDeleted, "Subject '%s' was not deleted first before being permanently deleted", subject)
		}
		numbers = append(numbers, v.Version)
	}
	if permanent {
		records, err := s.purge(subject, numbers, true)
		return numbers, records, err
	}
	r, err := record(key{Type: keyDeleteSubject, Subject: subject}, deleteValue{Subject: subject, Version: numbers[len(numbers)-1]})
	return numbers, []hublog.KeyValue{r}, err
}

// purge removes versions for good, the last first: a later one may reference an earlier one. With the last version go the subject's config and mode. The highest id
// is written down before: it may be that of a version whose record compaction then forgets.
func (s *state) purge(subject string, versions []int, all bool) ([]hublog.KeyValue, error) {
	highest, err := marshal(highestValue{s.last})
	if err != nil {
		return nil, err
	}
	records := []hublog.KeyValue{{Key: []byte(keyHighest), Value: highest}}
	var gone []key
	for _, n := range slices.Backward(versions) {
		gone = append(gone, schemaKey(subject, n))
	}
	if _, have := s.modes[subject]; all && have {
		gone = append(gone, key{Type: keyMode, Subject: subject})
	}
	if _, have := s.configs[subject]; all && have {
		gone = append(gone, key{Type: keyConfig, Subject: subject})
	}
	for _, k := range gone {
		r, err := record(k, nil)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}
