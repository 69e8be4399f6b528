package files

import "unicode/utf8"

// maxJSONDepth bounds how deep a value may nest before it is treated as text.
const maxJSONDepth = 1000

// appendCompact appends the JSON text src without the white space between its
// tokens, so that it fits on one line, and changes nothing else: numbers and
// escapes stay as they were written. It says false, and dst is as it was, when
// src is not exactly one JSON value in UTF-8 (RFC 8259).
func appendCompact(dst, src []byte) ([]byte, bool) {
	if !utf8.Valid(src) {
		return dst, false
	}
	c := compactor{src: src, dst: dst}
	if !c.value(0) {
		return c.dst[:len(dst)], false
	}
	if c.space(); c.i != len(src) {
		return c.dst[:len(dst)], false
	}
	return c.dst, true
}

type compactor struct {
	src, dst []byte
	i        int
}

// space skips white space and returns the byte after it, 0 at the end.
func (c *compactor) space() byte {
	for c.i < len(c.src) {
		switch b := c.src[c.i]; b {
		case ' ', '\t', '\n', '\r':
			c.i++
		default:
			return b
		}
	}
	return 0
}

func (c *compactor) value(depth int) bool {
	if depth > maxJSONDepth {
		return false
	}
	switch b := c.space(); b {
	case '{':
		return c.members('}', depth, true)
	case '[':
		return c.members(']', depth, false)
	case '"':
		return c.text()
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	default:
		return c.number()
	}
}

func (c *compactor) members(end byte, depth int, named bool) bool {
	c.take()
	if c.space() == end {
		c.take()
		return true
	}
	for {
		if named {
			if c.space() != '"' || !c.text() || c.space() != ':' {
				return false
			}
			c.take()
		}
		if !c.value(depth + 1) {
			return false
		}
		switch c.space() {
		case ',':
			c.take()
		case end:
			c.take()
			return true
		default:
			return false
		}
	}
}

func (c *compactor) take() {
	c.dst = append(c.dst, c.src[c.i])
	c.i++
}

func (c *compactor) literal(word string) bool {
	if len(c.src)-c.i < len(word) || string(c.src[c.i:c.i+len(word)]) != word {
		return false
	}
	c.dst = append(c.dst, word...)
	c.i += len(word)
	return true
}

func (c *compactor) text() bool {
	src, i := c.src, c.i+1
	for i < len(src) {
		switch b := src[i]; {
		case b == '"':
			i++
			c.dst = append(c.dst, src[c.i:i]...)
			c.i = i
			return true
		case b < 0x20:
			return false
		case b == '\\':
			if i+1 == len(src) {
				return false
			}
			switch src[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if len(src)-i < 6 || !isHex(src[i+2]) || !isHex(src[i+3]) || !isHex(src[i+4]) || !isHex(src[i+5]) {
					return false
				}
				i += 6
			default:
				return false
			}
		default:
			i++
		}
	}
	return false
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func (c *compactor) number() bool {
	src, i := c.src, c.i
	digits := func() bool {
		start := i
		for i < len(src) && src[i] >= '0' && src[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(src) && src[i] == '-' {
		i++
	}
	switch {
	case i < len(src) && src[i] == '0':
		i++
	case !digits():
		return false
	}
	if i < len(src) && src[i] == '.' {
		if i++; !digits() {
			return false
		}
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		i++
		if i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	c.dst = append(c.dst, src[c.i:i]...)
	c.i = i
	return true
}
