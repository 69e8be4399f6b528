package converter

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
)

// maxDepth bounds the nesting of JSON that is read.
const maxDepth = 128

var errJSON = errors.New("not valid JSON")

// parser reads one JSON text by the schema that it is known to have. Strings
// without escapes are not copied: values borrow from the text.
type parser struct {
	b     []byte
	i     int
	depth int
	m     *schema.Slab // of the members of objects
	// skipped says that something was passed over without a look at what is in it.
	skipped bool
	before  []byte // of the outermost object that infer reads: the text of its member of that name
}

func (p *parser) bad(what string) error {
	return fmt.Errorf("%w: %s at byte %d", errJSON, what, p.i)
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// peek is the next byte that is no white space; 0 at the end.
func (p *parser) peek() byte {
	if p.i < len(p.b) && p.b[p.i] > ' ' {
		return p.b[p.i]
	}
	p.space()
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

func (p *parser) take(c byte) error {
	if p.peek() != c {
		return p.bad("expected " + strconv.QuoteRune(rune(c)))
	}
	p.i++
	return nil
}

func (p *parser) literal(word string) error {
	if len(p.b)-p.i < len(word) || string(p.b[p.i:p.i+len(word)]) != word {
		return p.bad("expected " + word)
	}
	p.i += len(word)
	return nil
}

// end says whether nothing but white space is left.
func (p *parser) end() error {
	if p.peek() != 0 || p.i < len(p.b) {
		return p.bad("more text")
	}
	return nil
}

// str reads a string; it borrows from the text when there is no escape in it.
func (p *parser) str() ([]byte, error) {
	if err := p.take('"'); err != nil {
		return nil, err
	}
	start := p.i
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return p.b[start : p.i-1 : p.i-1], nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return nil, p.bad("control character in a string")
		}
		p.i++
	}
	return nil, p.bad("string without an end")
}

func (p *parser) escaped(start int) ([]byte, error) {
	out := append(make([]byte, 0, p.i-start+32), p.b[start:p.i]...)
	for p.i < len(p.b) {
		c := p.b[p.i]
		p.i++
		switch {
		case c == '"':
			return out, nil
		case c < 0x20:
			return nil, p.bad("control character in a string")
		case c != '\\':
			out = append(out, c)
			continue
		}
		if p.i >= len(p.b) {
			break
		}
		c = p.b[p.i]
		p.i++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, err := p.hex4()
			if err != nil {
				return nil, err
			}
			if utf16.IsSurrogate(r) {
				at, low := p.i, rune(0)
				if p.i+1 < len(p.b) && p.b[p.i] == '\\' && p.b[p.i+1] == 'u' {
					p.i += 2
					if low, err = p.hex4(); err != nil {
						return nil, err
					}
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError { // half a pair; what follows it stands for itself
					p.i = at
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, p.bad("unknown escape")
		}
	}
	return nil, p.bad("string without an end")
}

func (p *parser) hex4() (rune, error) {
	if len(p.b)-p.i < 4 {
		return 0, p.bad("short escape")
	}
	n, err := strconv.ParseUint(string(p.b[p.i:p.i+4]), 16, 32)
	if err != nil {
		return 0, p.bad("bad escape")
	}
	p.i += 4
	return rune(n), nil
}

// number returns the text of a number.
func (p *parser) number() ([]byte, error) {
	p.peek()
	start := p.i
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			p.i++
			continue
		}
		break
	}
	if p.i == start {
		return nil, p.bad("expected a number")
	}
	return p.b[start:p.i], nil
}

func (p *parser) integer() (int64, error) {
	c := p.peek()
	i, negative, n, digits := p.i, false, int64(0), 0
	if c == '-' {
		negative = true
		i++
	}
	for ; i < len(p.b) && p.b[i] >= '0' && p.b[i] <= '9'; i++ {
		n = n*10 + int64(p.b[i]-'0')
		digits++
	}
	if digits > 0 && digits <= 18 && (i == len(p.b) || p.b[i] != '.' && p.b[i] != 'e' && p.b[i] != 'E') {
		p.i = i
		if negative {
			n = -n
		}
		return n, nil
	}
	text, err := p.number()
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, nil
	}
	n, ok := connect.Whole(string(text)) // by its digits: a float has but 53 bits for them
	if !ok {
		return 0, p.bad("not an integer: " + string(text))
	}
	return n, nil
}

// skip passes over one value of any kind.
func (p *parser) skip() error {
	p.skipped = true
	depth := 0
	for {
		switch c := p.peek(); c {
		case 0:
			return p.bad("unexpected end")
		case '{', '[':
			depth++
			p.i++
			continue
		case '}', ']':
			depth--
			p.i++
		case ',', ':':
			if depth == 0 {
				return p.bad("unexpected " + string(rune(c)))
			}
			p.i++
			continue
		case '"':
			if err := p.skipString(); err != nil {
				return err
			}
		case 't', 'f', 'n':
			for p.i < len(p.b) && p.b[p.i] >= 'a' && p.b[p.i] <= 'z' {
				p.i++
			}
		default:
			if _, err := p.number(); err != nil {
				return err
			}
		}
		if depth < 0 {
			return p.bad("unexpected end of an object or array")
		}
		if depth == 0 {
			return nil
		}
	}
}

func (p *parser) skipString() error {
	for p.i++; p.i < len(p.b); p.i++ {
		switch p.b[p.i] {
		case '"':
			p.i++
			return nil
		case '\\':
			p.i++
		}
	}
	return p.bad("string without an end")
}

// value reads one value by its shape.
func (p *parser) value(n *shape) (schema.Value, error) {
	c := p.peek()
	if c == 'n' {
		if err := p.literal("null"); err != nil {
			return schema.Value{}, err
		}
		return n.absent()
	}
	if n.strict {
		if v, ok, err := p.loose(n); ok {
			return v, err
		}
	}
	switch n.s.Kind {
	case schema.Int16, schema.Int32, schema.Int64:
		if c == '"' {
			return p.placeholder()
		}
		i, err := p.integer()
		if err != nil {
			return schema.Value{}, err
		}
		switch n.s.Kind {
		case schema.Int16:
			if i != int64(int16(i)) {
				return schema.Value{}, p.bad("does not fit 16 bits")
			}
			return schema.Int16Of(int16(i)), nil
		case schema.Int32:
			if i != int64(int32(i)) {
				return schema.Value{}, p.bad("does not fit 32 bits")
			}
			return schema.Int32Of(int32(i)), nil
		}
		return schema.Int64Of(i), nil
	case schema.String:
		if c != '"' && n.s.Name == jsonName {
			return p.json()
		}
		text, err := p.str()
		if len(text) == len(unavailable) && string(text) == unavailable {
			return schema.Missing, err
		}
		return schema.TextOf(text), err
	case schema.Bool:
		switch c {
		case 't':
			return schema.BoolOf(true), p.literal("true")
		case 'f':
			return schema.BoolOf(false), p.literal("false")
		}
		return p.placeholder()
	case schema.Float32, schema.Float64:
		return p.float(n, c)
	case schema.Bytes:
		if c != '"' && n.s.Name == connect.Decimal {
			return p.decimal(n)
		}
		return p.bytes()
	case schema.Struct:
		if c == '"' {
			return p.placeholder()
		}
		return p.object(n)
	case schema.Array:
		return p.array(n)
	case schema.Map:
		return p.pairs(n)
	}
	return schema.Value{}, p.bad("a value where the schema has none")
}

// json reads what jsonOf has made, and what was written as it is.
func (p *parser) json() (schema.Value, error) {
	start := p.i
	if err := p.skip(); err != nil {
		return schema.Value{}, err
	}
	v := jsonOf(p.b[start:p.i:p.i])
	if !v.IsJSON() {
		return v, p.bad("a value that is no JSON")
	}
	return v, nil
}

// placeholder reads a string that can only stand for a value that was not sent.
func (p *parser) placeholder() (schema.Value, error) {
	text, err := p.str()
	if err != nil {
		return schema.Value{}, err
	}
	if string(text) != unavailable {
		return schema.Value{}, p.bad("a string in place of another type")
	}
	return schema.Missing, nil
}

func (p *parser) float(n *shape, c byte) (schema.Value, error) {
	var text []byte
	var err error
	if c == '"' {
		if text, err = p.str(); string(text) == unavailable && err == nil {
			return schema.Missing, nil
		}
	} else {
		text, err = p.number()
	}
	if err != nil {
		return schema.Value{}, err
	}
	bits := 64
	if n.s.Kind == schema.Float32 {
		bits = 32
	}
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return schema.Value{}, p.bad("not a number: " + string(text))
	}
	switch {
	case bits == 32:
		return schema.Float32Of(float32(f)), nil
	case c == '"':
		return schema.Float64Of(f), nil
	}
	return numberOf(f, text), nil
}

// decimal reads a Decimal that is a number, as JsonConverter writes it with decimal.format=NUMERIC.
func (p *parser) decimal(n *shape) (schema.Value, error) {
	text, err := p.number()
	if err != nil {
		return schema.Value{}, err
	}
	digits, err := connect.Unscaled(string(text), int64(connect.ScaleOf(n.s)))
	if err != nil {
		err = p.bad(err.Error())
	}
	return schema.BytesOf(digits), err
}

func (p *parser) bytes() (schema.Value, error) {
	text, err := p.str()
	if err != nil {
		return schema.Value{}, err
	}
	if len(text) == len(unavailableBase64) && string(text) == unavailableBase64 {
		return schema.Missing, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		return schema.Value{}, p.bad("not base64")
	}
	return schema.BytesOf(out[:n]), nil
}

// object reads a Struct. Fields come in the order of the schema when we wrote
// them; any other order works too, and unknown ones are passed over.
func (p *parser) object(n *shape) (schema.Value, error) {
	if p.depth++; p.depth > maxDepth {
		return schema.Value{}, p.bad("nested too deeply")
	}
	defer func() { p.depth-- }()
	if err := p.take('{'); err != nil {
		return schema.Value{}, err
	}
	list := p.m.Values(len(n.fields))
	if p.peek() == '}' {
		p.i++
		return schema.StructOf(list...), n.complete(list)
	}
	for guess := 0; ; guess++ {
		at := -1
		// names[i] is `,"name":` or `{"name":`: compare what follows its first byte.
		if guess < len(n.names) {
			name := n.names[guess][1:]
			if p.i+len(name) <= len(p.b) && string(p.b[p.i:p.i+len(name)]) == string(name) {
				at = guess
				p.i += len(name)
			}
		}
		if at < 0 {
			name, err := p.str()
			if err != nil {
				return schema.Value{}, err
			}
			if err := p.take(':'); err != nil {
				return schema.Value{}, err
			}
			at = n.places.Find(n.s.Fields, string(name))
		}
		var err error
		if at < 0 {
			err = p.skip()
		} else {
			list[at], err = p.value(n.fields[at])
			guess = at
			if errors.Is(err, errRequired) {
				err = fmt.Errorf("field '%s': %w", n.s.Fields[at].Name, err)
			}
		}
		if err != nil {
			return schema.Value{}, err
		}
		switch p.peek() {
		case ',':
			p.i++
			p.space()
		case '}':
			p.i++
			return schema.StructOf(list...), n.complete(list)
		default:
			return schema.Value{}, p.bad("expected , or }")
		}
	}
}

func (p *parser) array(n *shape) (schema.Value, error) {
	if p.depth++; p.depth > maxDepth {
		return schema.Value{}, p.bad("nested too deeply")
	}
	defer func() { p.depth-- }()
	if p.peek() == '"' {
		return p.placeholder()
	}
	if err := p.take('['); err != nil {
		return schema.Value{}, err
	}
	list := []schema.Value{}
	if p.peek() == ']' {
		p.i++
		return schema.ArrayOf(list...), nil
	}
	for {
		v, err := p.value(n.elem)
		if err != nil {
			return schema.Value{}, err
		}
		list = append(list, v)
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			if len(list) == 1 && (list[0].Kind == schema.Unavailable || n.strict && connect.Absent(list[0])) {
				return schema.Missing, nil
			}
			return schema.ArrayOf(list...), nil
		default:
			return schema.Value{}, p.bad("expected , or ]")
		}
	}
}

// pairs reads a Map: an object, or an array of [key, value].
func (p *parser) pairs(n *shape) (schema.Value, error) {
	if p.depth++; p.depth > maxDepth {
		return schema.Value{}, p.bad("nested too deeply")
	}
	defer func() { p.depth-- }()
	var list []schema.Value
	object := false
	switch p.peek() {
	case '"':
		return p.placeholder()
	case '{':
		object = true
	case '[':
	default:
		return schema.Value{}, p.bad("expected a map")
	}
	p.i++
	closing := byte(']')
	if object {
		closing = '}'
	}
	if p.peek() == closing {
		p.i++
		return schema.MapOf(), nil
	}
	for {
		var k, v schema.Value
		var err error
		if object {
			var text []byte
			if text, err = p.str(); err == nil {
				k, err = schema.TextOf(text), p.take(':')
			}
			if err == nil {
				v, err = p.value(n.elem)
			}
		} else if n.strict {
			k, v, err = p.entry(n)
		} else if err = p.take('['); err == nil {
			if k, err = p.value(n.key); err == nil {
				err = p.take(',')
			}
			if err == nil {
				v, err = p.value(n.elem)
			}
			if err == nil {
				err = p.take(']')
			}
		}
		if err != nil {
			return schema.Value{}, err
		}
		list = append(list, k, v)
		switch p.peek() {
		case ',':
			p.i++
		case closing:
			p.i++
			if n.strict && len(list) == 2 && (list[0].Kind == schema.Unavailable || string(list[0].Data) == unavailable) {
				return schema.Missing, nil
			}
			return schema.MapOf(list...), nil
		default:
			return schema.Value{}, p.bad("expected the map's next pair or its end")
		}
	}
}
