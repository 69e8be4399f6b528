package process

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// maxHandshake is the longest first line of a plugin.
const maxHandshake = 4 << 10

// handshakeLine is the first line of a plugin's standard output: go-plugin's CORE|VERSION|NETWORK|ADDRESS|PROTOCOL. What may follow
// (a certificate, a multiplexer) is not for us.
func handshakeLine(line string) (socket string, err error) {
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 5 || parts[0] != "1" {
		return "", fmt.Errorf("says %q where a plugin says how it is reached", clip(line))
	}
	if version, err := strconv.Atoi(parts[1]); err != nil || version != Version {
		return "", fmt.Errorf("speaks version %s of the plugin protocol, and this forebay version %d: one of the two has to be replaced", clip(parts[1]), Version)
	}
	if parts[2] != "unix" || parts[4] != "grpc" {
		return "", fmt.Errorf("serves %s over %s; only grpc over a unix socket is taken", clip(parts[4]), clip(parts[2]))
	}
	if !filepath.IsAbs(parts[3]) {
		return "", fmt.Errorf("serves the socket %q, which is no absolute path", clip(parts[3]))
	}
	return parts[3], nil
}

// clip is text that a plugin said, as far as a message has room for it.
func clip(text string) string {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

// greeting takes a plugin's standard output: its first line, once it is found to be one, is handed on to go-plugin, and the rest goes to the log.
type greeting struct {
	line    []byte
	said    bool
	socket  string
	refused error
	to      io.WriteCloser // go-plugin reads the other end
	rest    io.Writer
}

func (g *greeting) Write(p []byte) (int, error) {
	if g.said {
		return g.rest.Write(p)
	}
	part, rest, whole := bytes.Cut(p, []byte{'\n'})
	g.line = append(g.line, part[:min(len(part), maxHandshake-len(g.line))]...)
	if !whole && len(g.line) < maxHandshake {
		return len(p), nil
	}
	g.said = true
	if g.socket, g.refused = handshakeLine(string(g.line)); g.refused != nil {
		return len(p), g.to.Close()
	}
	if _, err := fmt.Fprintf(g.to, "1|%d|unix|%s|grpc\n", Version, g.socket); err != nil {
		return 0, err
	}
	if _, err := g.rest.Write(rest); err != nil {
		return 0, err
	}
	return len(p), nil
}
