package tlsdir

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// maxKeys bounds the keys of gossip: each message of a stranger is tried with all of them.
const maxKeys = 8

// LoadKeys reads a file of gossip's keys.
func LoadKeys(path string) ([][]byte, error) {
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(text))
	if err != nil {
		return nil, bad(path, err.Error(), "a line for each key; make one with `head -c 32 /dev/urandom | base64`")
	}
	return keys, nil
}

// ParseKeys reads keys of 16, 24 or 32 bytes, one a line in base64. Empty lines, and those that begin with #, are passed over. The error shows
// nothing of a key.
func ParseKeys(text string) (keys [][]byte, err error) {
	at := 0
	for line := range strings.Lines(text) {
		at++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(line)
		if n := len(key); err != nil || n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("line %d is not 16, 24 or 32 bytes in base64", at)
		}
		for _, k := range keys {
			if bytes.Equal(k, key) {
				return nil, fmt.Errorf("line %d is a key that is there already", at)
			}
		}
		if keys = append(keys, key); len(keys) > maxKeys {
			return nil, fmt.Errorf("there are more than %d keys", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key in it")
	}
	return keys, nil
}
