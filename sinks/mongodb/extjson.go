package mongodb

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// maxNesting is what the server takes of nested documents, and some more.
const maxNesting = 200

var (
	errJSON = errors.New("not a JSON document")
	// errNotBSON says that a JSON value has no exact BSON: the caller keeps its text.
	errNotBSON = errors.New("BSON cannot hold the value")
)

// reader turns JSON text into BSON. Extended, it reads what sources/mongodb and Debezium write of a
// document: MongoDB's extended JSON v1 (strict) and v2, in which types are told by objects such as
// {"$numberLong": "1"}. Else it reads any JSON, where such an object is only an object.
//
// In extended JSON a number with a point or an exponent is a double and another one an integer, as the
// writers have it; so int32, int64 and double come back as they were.
type reader struct {
	src      []byte
	at       int
	extended bool
}

// document appends the document that text is.
func document(dst, text []byte, extended bool) ([]byte, error) {
	r := reader{src: text, extended: extended}
	dst, t, err := r.value(dst, 0)
	if err != nil {
		return dst, err
	}
	if r.space(); r.at != len(r.src) {
		return dst, errJSON
	}
	if t != bsoncore.TypeEmbeddedDocument {
		return dst, fmt.Errorf("the text is no document: %w", errJSON)
	}
	return dst, nil
}

// anyValue appends the value that text is.
func anyValue(dst, text []byte, extended bool) ([]byte, bsoncore.Type, error) {
	r := reader{src: text, extended: extended}
	dst, t, err := r.value(dst, 0)
	if r.space(); err == nil && r.at != len(r.src) {
		err = errJSON
	}
	return dst, t, err
}

func (r *reader) space() {
	for r.at < len(r.src) && (r.src[r.at] == ' ' || r.src[r.at] == '\n' || r.src[r.at] == '\t' || r.src[r.at] == '\r') {
		r.at++
	}
}

// next is the next character that is no space; 0 at the end.
func (r *reader) next() byte {
	if r.space(); r.at < len(r.src) {
		return r.src[r.at]
	}
	return 0
}

func (r *reader) take(c byte) error {
	if r.next() != c {
		return fmt.Errorf("%w: no %q at byte %d", errJSON, c, r.at)
	}
	r.at++
	return nil
}

func (r *reader) word(w string) error {
	if !strings.HasPrefix(string(r.src[r.at:min(len(r.src), r.at+len(w))]), w) {
		return fmt.Errorf("%w: byte %d", errJSON, r.at)
	}
	r.at += len(w)
	return nil
}

// value appends the next value and says its type.
func (r *reader) value(dst []byte, depth int) ([]byte, bsoncore.Type, error) {
	if depth > maxNesting {
		return dst, 0, fmt.Errorf("%w: it is nested deeper than %d", errNotBSON, maxNesting)
	}
	switch c := r.next(); c {
	case '{':
		return r.object(dst, depth)
	case '[':
		return r.array(dst, depth)
	case '"':
		s, err := r.str()
		return bsoncore.AppendString(dst, s), bsoncore.TypeString, err
	case 't':
		return bsoncore.AppendBoolean(dst, true), bsoncore.TypeBoolean, r.word("true")
	case 'f':
		return bsoncore.AppendBoolean(dst, false), bsoncore.TypeBoolean, r.word("false")
	case 'n':
		return dst, bsoncore.TypeNull, r.word("null")
	default:
		return r.number(dst)
	}
}

// str reads a string.
func (r *reader) str() (string, error) {
	if err := r.take('"'); err != nil {
		return "", err
	}
	start, escaped := r.at, false
	for ; r.at < len(r.src); r.at++ {
		switch r.src[r.at] {
		case '\\':
			escaped = true
			r.at++
		case '"':
			span := r.src[start:r.at]
			r.at++
			if !utf8.Valid(span) {
				return "", fmt.Errorf("%w: a string is not UTF-8", errJSON)
			}
			if !escaped {
				return string(span), nil
			}
			var s string
			if err := json.Unmarshal(r.src[start-1:r.at], &s); err != nil {
				return "", fmt.Errorf("%w: %w", errJSON, err)
			}
			return s, nil
		}
	}
	return "", fmt.Errorf("%w: a string has no end", errJSON)
}

// key reads a member's name; BSON ends names with a zero byte.
func (r *reader) key() (string, error) {
	k, err := r.str()
	if err == nil && strings.ContainsRune(k, 0) {
		err = fmt.Errorf("%w: a name holds a zero byte", errNotBSON)
	}
	if err == nil {
		err = r.take(':')
	}
	return k, err
}

func (r *reader) object(dst []byte, depth int) ([]byte, bsoncore.Type, error) {
	if r.extended {
		at := r.at
		if out, t, ok := r.wrapper(dst, depth); ok {
			return out, t, nil
		}
		r.at = at
	}
	if err := r.take('{'); err != nil {
		return dst, 0, err
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	for first := true; ; first = false {
		if c := r.next(); c == '}' && first {
			break
		} else if !first && c == '}' {
			break
		}
		if !first {
			if err := r.take(','); err != nil {
				return dst, 0, err
			}
		}
		if c := r.next(); c != '"' {
			return dst, 0, fmt.Errorf("%w: no name at byte %d", errJSON, r.at)
		}
		k, err := r.key()
		if err != nil {
			return dst, 0, err
		}
		if dst, err = r.element(dst, k, depth); err != nil {
			return dst, 0, err
		}
	}
	r.at++
	dst, err := bsoncore.AppendDocumentEnd(dst, start)
	return dst, bsoncore.TypeEmbeddedDocument, err
}

// element appends a member: its type, which is known last, stands first.
func (r *reader) element(dst []byte, name string, depth int) ([]byte, error) {
	head := len(dst)
	dst = append(append(append(dst, 0), name...), 0)
	dst, t, err := r.value(dst, depth+1)
	dst[head] = byte(t)
	return dst, err
}

func (r *reader) array(dst []byte, depth int) ([]byte, bsoncore.Type, error) {
	if err := r.take('['); err != nil {
		return dst, 0, err
	}
	start, dst := bsoncore.AppendArrayStart(dst)
	for i := 0; ; i++ {
		if r.next() == ']' {
			break
		}
		var err error
		if i > 0 {
			if err = r.take(','); err != nil {
				return dst, 0, err
			}
			if r.next() == ']' {
				return dst, 0, fmt.Errorf("%w: byte %d", errJSON, r.at)
			}
		}
		if dst, err = r.element(dst, strconv.Itoa(i), depth); err != nil {
			return dst, 0, err
		}
	}
	r.at++
	dst, err := bsoncore.AppendArrayEnd(dst, start)
	return dst, bsoncore.TypeArray, err
}

func (r *reader) number(dst []byte) ([]byte, bsoncore.Type, error) {
	start, whole := r.at, true
	for r.at < len(r.src) {
		c := r.src[r.at]
		if c == '.' || c == 'e' || c == 'E' {
			whole = false
		} else if c != '-' && c != '+' && (c < '0' || c > '9') {
			break
		}
		r.at++
	}
	text := string(r.src[start:r.at])
	if !json.Valid([]byte(text)) {
		return dst, 0, fmt.Errorf("%w: byte %d", errJSON, start)
	}
	if whole && (text != "-0" || r.extended) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			dst, t := appendInt(dst, n)
			return dst, t, nil
		}
	}
	if r.extended || digits(text) <= 15 {
		f, err := strconv.ParseFloat(text, 64)
		if err == nil || r.extended {
			return bsoncore.AppendDouble(dst, f), bsoncore.TypeDouble, nil
		}
	}
	// More digits than a double keeps.
	if d, err := bson.ParseDecimal128(text); err == nil && digits(text) <= 34 {
		h, l := d.GetBytes()
		return bsoncore.AppendDecimal128(dst, h, l), bsoncore.TypeDecimal128, nil
	}
	return dst, 0, fmt.Errorf("%w: the number %.40s", errNotBSON, text)
}

// digits counts the digits before the exponent, without zeros that lead.
func digits(text string) int {
	n := 0
	for _, c := range text {
		switch {
		case c == 'e' || c == 'E':
			return n
		case c >= '1' && c <= '9' || c == '0' && n > 0:
			n++
		}
	}
	return n
}

// appendInt appends the smaller of the two integer types that holds n.
func appendInt(dst []byte, n int64) ([]byte, bsoncore.Type) {
	if n == int64(int32(n)) {
		return bsoncore.AppendInt32(dst, int32(n)), bsoncore.TypeInt32
	}
	return bsoncore.AppendInt64(dst, n), bsoncore.TypeInt64
}

// member is a member of an object that may tell a type.
type member struct {
	name  string
	value []byte // the text
}

// members reads an object of one or two members whose names begin with a dollar sign.
func (r *reader) members() []member {
	var out []member
	if r.take('{') != nil {
		return nil
	}
	for {
		if r.next() != '"' {
			return nil
		}
		name, err := r.key()
		if err != nil || !strings.HasPrefix(name, "$") || len(out) == 2 {
			return nil
		}
		r.space()
		at := r.at
		if r.skip() != nil {
			return nil
		}
		out = append(out, member{name, r.src[at:r.at]})
		switch r.next() {
		case ',':
			r.at++
		case '}':
			r.at++
			return out
		default:
			return nil
		}
	}
}

// skip passes a value by without looking into it.
func (r *reader) skip() error {
	depth := 0
	for {
		switch r.next() {
		case 0:
			return errJSON
		case '"':
			if _, err := r.str(); err != nil {
				return err
			}
		case '{', '[':
			depth++
			r.at++
		case '}', ']':
			depth--
			r.at++
		case ',', ':':
			r.at++
		default:
			for r.at < len(r.src) && !strings.ContainsRune(",:]} \n\t\r", rune(r.src[r.at])) {
				r.at++
			}
		}
		if depth < 0 {
			return errJSON
		}
		if depth == 0 {
			return nil
		}
	}
}

// wrapper reads an object that tells a type; not ok: it is a document like any other.
func (r *reader) wrapper(dst []byte, depth int) (_ []byte, t bsoncore.Type, ok bool) {
	m := r.members()
	switch len(m) {
	case 1:
		return single(dst, m[0].name, m[0].value)
	case 2:
		a, b := m[0], m[1]
		switch {
		case a.name == "$binary" && b.name == "$type":
			data, ok1 := text(a.value)
			sub, ok2 := text(b.value)
			return binaryOf(dst, data, sub, ok1 && ok2)
		case a.name == "$regex" && b.name == "$options":
			p, ok1 := text(a.value)
			o, ok2 := text(b.value)
			return regexOf(dst, p, o, ok1 && ok2)
		case a.name == "$code" && b.name == "$scope":
			code, ok := text(a.value)
			inner := reader{src: b.value, extended: true}
			scope, t, err := inner.value(nil, depth+1)
			if !ok || err != nil || t != bsoncore.TypeEmbeddedDocument {
				return dst, 0, false
			}
			return bsoncore.AppendCodeWithScope(dst, code, scope), bsoncore.TypeCodeWithScope, true
		}
	}
	return dst, 0, false
}

// single reads {"$name": value}.
func single(dst []byte, name string, value []byte) ([]byte, bsoncore.Type, bool) {
	s, is := text(value)
	switch name {
	case "$numberInt":
		n, err := strconv.ParseInt(s, 10, 32)
		return bsoncore.AppendInt32(dst, int32(n)), bsoncore.TypeInt32, is && err == nil
	case "$numberLong":
		n, err := strconv.ParseInt(s, 10, 64)
		return bsoncore.AppendInt64(dst, n), bsoncore.TypeInt64, is && err == nil
	case "$numberDouble":
		f, err := strconv.ParseFloat(s, 64)
		return bsoncore.AppendDouble(dst, f), bsoncore.TypeDouble, is && err == nil
	case "$numberDecimal":
		d, err := bson.ParseDecimal128(s)
		h, l := d.GetBytes()
		return bsoncore.AppendDecimal128(dst, h, l), bsoncore.TypeDecimal128, is && err == nil
	case "$oid":
		id, err := bson.ObjectIDFromHex(s)
		return bsoncore.AppendObjectID(dst, id), bsoncore.TypeObjectID, is && err == nil
	case "$symbol":
		return bsoncore.AppendSymbol(dst, s), bsoncore.TypeSymbol, is
	case "$code":
		return bsoncore.AppendJavaScript(dst, s), bsoncore.TypeJavaScript, is
	case "$uuid":
		b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
		return bsoncore.AppendBinary(dst, bson.TypeBinaryUUID, b), bsoncore.TypeBinary, is && err == nil && len(b) == 16
	case "$date":
		ms, ok := date(value)
		return bsoncore.AppendDateTime(dst, ms), bsoncore.TypeDateTime, ok
	case "$undefined":
		return dst, bsoncore.TypeUndefined, string(value) == "true"
	case "$minKey":
		return dst, bsoncore.TypeMinKey, string(value) == "1"
	case "$maxKey":
		return dst, bsoncore.TypeMaxKey, string(value) == "1"
	case "$timestamp":
		var v struct{ T, I *uint32 }
		ok := strict(value, &v) && v.T != nil && v.I != nil
		if !ok {
			return dst, 0, false
		}
		return bsoncore.AppendTimestamp(dst, *v.T, *v.I), bsoncore.TypeTimestamp, true
	case "$binary":
		var v struct{ Base64, SubType *string }
		if !strict(value, &v) || v.Base64 == nil || v.SubType == nil {
			return dst, 0, false
		}
		return binaryOf(dst, *v.Base64, *v.SubType, true)
	case "$regularExpression":
		var v struct{ Pattern, Options *string }
		if !strict(value, &v) || v.Pattern == nil || v.Options == nil {
			return dst, 0, false
		}
		return regexOf(dst, *v.Pattern, *v.Options, true)
	case "$dbPointer":
		var v struct {
			Ref *string `json:"$ref"`
			ID  *struct {
				OID string `json:"$oid"`
			} `json:"$id"`
		}
		if !strict(value, &v) || v.Ref == nil || v.ID == nil {
			return dst, 0, false
		}
		id, err := bson.ObjectIDFromHex(v.ID.OID)
		return bsoncore.AppendDBPointer(dst, *v.Ref, id), bsoncore.TypeDBPointer, err == nil
	}
	return dst, 0, false
}

// text reads a JSON string.
func text(value []byte) (string, bool) {
	r := reader{src: value}
	if r.next() != '"' {
		return "", false
	}
	s, err := r.str()
	return s, err == nil && r.at == len(value)
}

// strict reads an object that has no other members.
func strict(value []byte, into any) bool {
	d := json.NewDecoder(strings.NewReader(string(value)))
	d.DisallowUnknownFields()
	return d.Decode(into) == nil
}

func binaryOf(dst []byte, data, sub string, ok bool) ([]byte, bsoncore.Type, bool) {
	b, err := base64.StdEncoding.DecodeString(data)
	n, err2 := strconv.ParseUint(sub, 16, 8)
	if !ok || err != nil || err2 != nil {
		return dst, 0, false
	}
	return bsoncore.AppendBinary(dst, byte(n), b), bsoncore.TypeBinary, true
}

func regexOf(dst []byte, pattern, opts string, ok bool) ([]byte, bsoncore.Type, bool) {
	if !ok || strings.ContainsRune(pattern, 0) || strings.ContainsRune(opts, 0) {
		return dst, 0, false
	}
	return bsoncore.AppendRegex(dst, pattern, opts), bsoncore.TypeRegex, true
}

// date reads milliseconds, {"$numberLong": "…"}, or ISO 8601.
func date(value []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return n, true
	}
	if s, ok := text(value); ok {
		at, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", s)
		return at.UnixMilli(), err == nil
	}
	var v struct {
		Long string `json:"$numberLong"`
	}
	if !strict(value, &v) {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Long, 10, 64)
	return n, err == nil
}

// floor divides towards minus infinity.
func floor(n, by int64) (quotient, rest int64) {
	quotient, rest = n/by, n%by
	if rest < 0 {
		quotient, rest = quotient-1, rest+by
	}
	return quotient, rest
}
