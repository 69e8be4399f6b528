package differential

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// leaf is one value of a response: path has indices, shape has none.
type leaf struct{ path, shape, value string }

// difference is one value that is not the same on both sides.
type difference struct {
	scenario, step string
	shape, path    string
	kafka, forebay string
}

func (d difference) String() string {
	return fmt.Sprintf("%s | %s | %s | kafka %s | forebay %s", d.scenario, d.step, d.path, d.kafka, d.forebay)
}

// leaves flattens a response.
func (s *side) leaves(st step) []leaf {
	var out []leaf
	if st.event != "" {
		out = append(out, leaf{"event", "event", st.event})
	}
	s.now = st.label
	if st.resp != nil {
		name := kmsg.NameForKey(st.resp.Key())
		s.walk(&out, name, name, "", reflect.ValueOf(st.resp).Elem())
	}
	return out
}

func (s *side) walk(out *[]leaf, path, shape, field string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			*out = append(*out, leaf{path, shape, "null"})
			return
		}
		s.walk(out, path, shape, field, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch f.Name {
			case "Version":
			case "UnknownTags":
				tags := v.Field(i).Addr().Interface().(*kmsg.Tags)
				tags.Each(func(k uint32, b []byte) {
					*out = append(*out, leaf{fmt.Sprintf("%s.tag %d", path, k), shape + ".tag", fmt.Sprintf("%x", b)})
				})
			default:
				s.walk(out, path+"."+f.Name, shape+"."+f.Name, f.Name, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if field == "RecordBatches" {
				s.batches(out, path, shape, v.Bytes())
				return
			}
			text := fmt.Sprintf("%q", v.Bytes())
			if v.IsNil() {
				text = "null"
			}
			*out = append(*out, leaf{path, shape, s.level(path, field, text)})
			return
		}
		s.walkArray(out, path, shape, v)
	case reflect.Array:
		*out = append(*out, leaf{path, shape, s.level(path, field, fmt.Sprintf("%x", v.Interface()))})
	default:
		*out = append(*out, leaf{path, shape, s.level(path, field, fmt.Sprint(v.Interface()))})
	}
}

func (s *side) walkArray(out *[]leaf, path, shape string, v reflect.Value) {
	items := make([]reflect.Value, 0, v.Len())
	for i := range v.Len() {
		item := v.Index(i)
		if f, ok := own[shape]; ok && !strings.HasPrefix(text(item.FieldByName(f)), s.prefix) && v.Len() > 1 {
			continue
		}
		items = append(items, item)
	}
	keys, set := sets[shape]
	sortKey := func(item reflect.Value) string {
		if len(keys) == 0 {
			return text(item)
		}
		var parts []string
		for _, k := range keys {
			if k == "TopicID" {
				f := item.FieldByName(k)
				parts = append(parts, s.nameOf(f.Interface().([16]byte)))
				continue
			}
			parts = append(parts, text(item.FieldByName(k)))
		}
		return strings.Join(parts, "\x00")
	}
	if set {
		slices.SortStableFunc(items, func(a, b reflect.Value) int { return cmp.Compare(sortKey(a), sortKey(b)) })
	}
	byName := set && len(keys) == 1 && (keys[0] == "Name" || keys[0] == "ApiKey")
	if !byName {
		length := fmt.Sprint(len(items))
		if v.IsNil() {
			length = "0" // kmsg does not tell null from empty in every array
		}
		*out = append(*out, leaf{path + "#", shape + "#", length})
	}
	for i, item := range items {
		p := fmt.Sprintf("%s[%d]", path, i)
		if byName { // what one side lacks is one difference, not one for each that follows
			p = fmt.Sprintf("%s[%s]", path, text(item.FieldByName(keys[0])))
			*out = append(*out, leaf{p, shape, "there"})
		}
		s.walk(out, p, shape, "", item)
	}
}

// text is a key's value with leading zeros, for sorting.
func text(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("%d", v.Int())
	case reflect.Slice:
		return string(v.Bytes())
	}
	return fmt.Sprint(v.Interface())
}

func (s *side) nameOf(id [16]byte) string {
	for name, known := range s.ids {
		if known == id {
			return name
		}
	}
	return ""
}

// batches tells what a Fetch response's bytes hold.
func (s *side) batches(out *[]leaf, path, shape string, b []byte) {
	n := 0
	for ; len(b) >= 61; n++ {
		end := 12 + int(int32(binary.BigEndian.Uint32(b[8:])))
		if end < 61 || end > len(b) {
			break
		}
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(b[:end]); err != nil {
			*out = append(*out, leaf{path, shape, err.Error()})
			return
		}
		ok := crc32.Checksum(b[21:end], crc32.MakeTable(crc32.Castagnoli)) == uint32(rb.CRC)
		b = b[end:]
		p := fmt.Sprintf("%s[%d]", path, n)
		add := func(name string, x any) {
			*out = append(*out, leaf{p + "." + name, shape + "." + name, s.level(p, name, fmt.Sprint(x))})
		}
		add("FirstOffset", rb.FirstOffset)
		add("LeaderEpoch", rb.PartitionLeaderEpoch)
		add("Magic", rb.Magic)
		add("CRCRight", ok)
		add("Attributes", rb.Attributes)
		add("LastOffsetDelta", rb.LastOffsetDelta)
		add("FirstTimestamp", rb.FirstTimestamp)
		add("MaxTimestamp", rb.MaxTimestamp)
		add("ProducerID", rb.ProducerID)
		add("ProducerEpoch", rb.ProducerEpoch)
		add("FirstSequence", rb.FirstSequence)
		add("NumRecords", rb.NumRecords)
		add("Records", fmt.Sprintf("%d bytes, %08x", len(rb.Records), crc32.ChecksumIEEE(rb.Records)))
	}
	*out = append(*out, leaf{path + "#", shape + "#", fmt.Sprintf("%d batches", n)}, leaf{path + ".rest", shape + ".rest", fmt.Sprintf("%d bytes", len(b))})
}

// compare finds what differs between the two sides of one scenario.
func compare(scenario string, kafka, forebay *side) []difference {
	var out []difference
	for i := range max(len(kafka.steps), len(forebay.steps)) {
		var a, b step
		if i < len(kafka.steps) {
			a = kafka.steps[i]
		}
		if i < len(forebay.steps) {
			b = forebay.steps[i]
		}
		if a.label != b.label {
			return append(out, difference{scenario, "way", "way", "way", a.label, b.label})
		}
		out = append(out, compareStep(scenario, a.label, kafka.leaves(a), forebay.leaves(b))...)
	}
	if kafka.fault != forebay.fault {
		first := func(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }
		out = append(out, difference{scenario, "end", "fault", "fault", first(kafka.fault), first(forebay.fault)})
	}
	return out
}

func compareStep(scenario, label string, kafka, forebay []leaf) []difference {
	values := map[string]string{}
	for _, l := range forebay {
		values[l.path] = l.value
	}
	var out []difference
	if a, b := event(kafka), event(forebay); a != b { // the rest follows from it
		return []difference{{scenario, label, "event", "event", a, b}}
	}
	// What one side lacks is told once, without what is in it; of arrays of different lengths the length.
	var skip []string
	lacks := func(path string) bool {
		for _, s := range skip {
			if strings.HasPrefix(path, s) {
				return true
			}
		}
		skip = append(skip, path+".", path+"[", path+"#")
		return false
	}
	for _, l := range kafka {
		v, ok := values[l.path]
		delete(values, l.path)
		if ok && v != l.value {
			out = append(out, difference{scenario, label, l.shape, l.path, l.value, v})
			if array, is := strings.CutSuffix(l.path, "#"); is {
				skip = append(skip, array+"[")
			}
		}
		if !ok && !lacks(l.path) {
			out = append(out, difference{scenario, label, l.shape, l.path, l.value, "absent"})
		}
	}
	for _, l := range forebay {
		if v, left := values[l.path]; left && !lacks(l.path) {
			out = append(out, difference{scenario, label, l.shape, l.path, "absent", v})
		}
	}
	// Where the error codes differ the rest follows from it.
	var errs []string
	for _, d := range out {
		if element, is := strings.CutSuffix(d.path, ".ErrorCode"); is {
			errs = append(errs, element)
		}
	}
	return slices.DeleteFunc(out, func(d difference) bool {
		return slices.ContainsFunc(errs, func(e string) bool { return strings.HasPrefix(d.path, e) && d.path != e+".ErrorCode" })
	})
}

// event is what came in place of a response, or "answered".
func event(leaves []leaf) string {
	if len(leaves) > 0 && leaves[0].shape == "event" {
		return leaves[0].value
	}
	return "answered"
}

// group is differences that look the same but for the step.
type group struct {
	scenario, shape, kafka, forebay string
	steps                           []string
}

var versionInLabel = regexp.MustCompile(`^\S+ v(\d+) `)

func grouped(ds []difference) []group {
	var out []group
	at := map[[4]string]int{}
	for _, d := range ds {
		key := [4]string{d.scenario, d.path, d.kafka, d.forebay}
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, group{d.scenario, d.path, d.kafka, d.forebay, nil})
		}
		if !slices.Contains(out[i].steps, d.step) {
			out[i].steps = append(out[i].steps, d.step)
		}
	}
	for i := range out {
		out[i].steps = byVersion(out[i].steps)
	}
	return out
}

// byVersion puts steps that differ in the version only into one.
func byVersion(steps []string) []string {
	var names []string
	versions := map[string][]string{}
	for _, s := range steps {
		name, v := s, ""
		if m := versionInLabel.FindStringSubmatch(s); m != nil {
			name, v = s[len(m[0]):], m[1]
		}
		if versions[name] == nil {
			names = append(names, name)
		}
		versions[name] = append(versions[name], v)
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%s (v%s)", n, strings.Join(versions[n], ","))
	}
	return names
}
