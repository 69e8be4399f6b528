package migrate

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// external is a reference of Connect's (KIP-297): ${provider:path:key} or ${provider:key}.
var external = regexp.MustCompile(`\$\{([^}:]*):(?:([^}:]*):)?([^}:]*)\}`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// escape writes a text so that our YAML reads no reference in it.
func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "$$", "$$$$"), "${", "$${")
}

// parts calls literal and reference for what a field's value consists of; a reference is as our YAML has it.
func (d *draft) parts(f field, near string, literal, reference func(string)) {
	rest := f.value
	for _, at := range external.FindAllStringSubmatchIndex(f.value, -1) {
		done := len(f.value) - len(rest)
		literal(rest[:at[0]-done])
		rest = f.value[at[1]:]
		group := func(i int) string {
			if at[2*i] < 0 {
				return ""
			}
			return f.value[at[2*i]:at[2*i+1]]
		}
		provider, path, key := group(1), group(2), group(3)
		switch {
		case provider == "env" && path == "" && variableName.MatchString(key):
			reference("${" + key + "}")
		case provider == "dir" && path != "" && key != "":
			reference("${file:" + strings.TrimSuffix(path, "/") + "/" + key + "}")
		default:
			name := d.variable(key)
			d.say(f, Remark, near, fmt.Sprintf("set %s to what %s gives in Connect", name, shown(f.value[at[0]:at[1]])), "or write ${file:PATH} for a file that holds the value alone")
			reference("${" + name + "}")
		}
	}
	literal(rest)
}

// text is a field's value as our YAML has it.
func (d *draft) text(f field, near string) string {
	var b strings.Builder
	d.parts(f, near, func(s string) { b.WriteString(escape(s)) }, func(s string) { b.WriteString(s) })
	return strings.TrimSpace(b.String())
}

// urlText is the same as a part of a URL.
func (d *draft) urlText(f field, near string) string {
	var b strings.Builder
	d.parts(f, near, func(s string) { b.WriteString(strings.ReplaceAll(url.QueryEscape(s), "+", "%20")) }, func(s string) { b.WriteString(s) })
	return b.String()
}

// secret is a variable for a field's value, which is shown nowhere; a reference stays one. "" when the field is not there.
func (d *draft) secret(key, near string) string {
	f, ok := d.find(key)
	if !ok || f.value == "" {
		return ""
	}
	if at := external.FindStringIndex(f.value); at != nil && at[0] == 0 && at[1] == len(f.value) {
		return d.text(f, near)
	}
	last := key[strings.LastIndexByte(key, '.')+1:]
	return d.hide(f, near, d.variable(last))
}

func (d *draft) hide(f field, near, name string) string {
	d.say(f, Remark, near, "set "+name+" to it", "as a URL has it: %40 for @, %2F for /, %25 for %")
	return "${" + name + "}"
}

// split is a list with commas.
func split(s string) (out []string) {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// texts are the items of a list as our YAML has them.
func (d *draft) texts(f field, near string) []string { return split(d.text(f, near)) }

// milliseconds is a number of them as a duration of ours.
func milliseconds(s string) (string, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > int64(100*365*24*time.Hour/time.Millisecond) {
		return "", false
	}
	for _, u := range []struct {
		name string
		ms   int64
	}{{"h", 3_600_000}, {"m", 60_000}, {"s", 1000}} {
		if n != 0 && n%u.ms == 0 {
			return strconv.FormatInt(n/u.ms, 10) + u.name, true
		}
	}
	return strconv.FormatInt(n, 10) + "ms", true
}

// mongoURL is a connection string without its password, if it has one.
func (d *draft) mongoURL(key, user, password string) {
	f, ok := d.find(key)
	if !ok || f.value == "" {
		return
	}
	scheme, rest, ok := strings.Cut(f.value, "://")
	if !ok || external.MatchString(f.value) && external.FindStringIndex(f.value)[0] == 0 {
		if external.MatchString(f.value) {
			d.put("url", text(d.text(f, "url")))
		} else {
			d.hideAll(f, "url")
		}
		return
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	auth := ""
	if at := strings.LastIndexByte(rest[:end], '@'); at >= 0 {
		name, secret, has := strings.Cut(rest[:at], ":")
		auth = d.text(field{f.key, name, f.line}, "url")
		switch {
		case has && external.MatchString(secret):
			auth += ":" + d.text(field{f.key, secret, f.line}, "url")
		case has:
			auth += ":" + d.hide(f, "url", d.variable("password"))
		}
		auth += "@"
		rest = rest[at+1:]
	} else if strings.ContainsRune(rest, '@') {
		d.hideAll(f, "url") // a password with a slash in it, perhaps: nobody knows where it ends
		return
	} else if u, ok := d.find(user); ok && u.value != "" {
		auth = d.urlText(u, "url")
		if p := d.secret(password, "url"); p != "" {
			auth += ":" + p
		}
		auth += "@"
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 && secretive.MatchString(rest[i:]) {
		d.hideAll(f, "url")
		return
	}
	d.put("url", text(d.text(field{f.key, scheme, f.line}, "url")+"://"+auth+d.text(field{f.key, rest, f.line}, "url")))
}

// secretive is the name of something that is not for everybody's eyes.
var secretive = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|credential`)

// hideAll lets a variable stand for the whole URL.
func (d *draft) hideAll(f field, near string) {
	d.say(f, Remark, near, "set "+d.variable("url")+" to it", "it may hold a password")
	d.put("url", text("${"+d.variable("url")+"}"))
}

// globs makes names with wildcards of a list of regular expressions, as Debezium has them: a dot stands for itself, .* for anything, and (a|b)
// for each of the two. rest is what no wildcard says.
func globs(expressions []string) (out, rest []string) {
	for _, e := range expressions {
		if names, ok := glob(e); ok {
			for _, n := range names {
				if !slices.Contains(out, n) {
					out = append(out, n)
				}
			}
		} else {
			rest = append(rest, e)
		}
	}
	return out, rest
}

// maxGlobs bounds what alternatives multiply to.
const maxGlobs = 100

func glob(e string) ([]string, bool) {
	e = strings.TrimSuffix(strings.TrimPrefix(e, "^"), "$")
	out := []string{""}
	each := func(s string) {
		for i := range out {
			out[i] += s
		}
	}
	for i := 0; i < len(e); i++ {
		switch c := e[i]; {
		case strings.HasPrefix(e[i:], "[.]"):
			each(".")
			i += 2
		case strings.HasPrefix(e[i:], ".*"), strings.HasPrefix(e[i:], ".+"):
			each("*")
			i++
		case c == '\\' && i+1 < len(e) && strings.IndexByte(`.-_$`, e[i+1]) >= 0:
			i++
			each(e[i : i+1])
		case c == '.', c == '_', c == '-', c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= 0x80:
			each(e[i : i+1])
		case c == '(':
			end := strings.IndexByte(e[i:], ')')
			if end < 0 {
				return nil, false
			}
			var more []string
			for alternative := range strings.SplitSeq(strings.TrimPrefix(e[i+1:i+end], "?:"), "|") {
				names, ok := glob(alternative)
				if !ok || strings.ContainsAny(alternative, "^$(") {
					return nil, false
				}
				for _, o := range out {
					for _, n := range names {
						more = append(more, o+n)
					}
				}
				if len(more) > maxGlobs {
					return nil, false
				}
			}
			out = more
			i += end
		default:
			return nil, false
		}
	}
	return out, e != ""
}
