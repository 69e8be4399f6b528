package files

import (
	"fmt"
	"strings"
	"time"
)

// Pattern names the folders under a topic's folder that a record's file lies
// in: literal text and a subset of strftime's tokens, filled in from the
// record's timestamp in UTC. The tokens:
//
//	%Y year, 4 digits    %m month 01-12    %d day 01-31    %j day of the year 001-366
//	%H hour 00-23        %M minute 00-59   %S second 00-60 %y year, 2 digits
//	%% a percent sign
//
// The empty Pattern puts every file straight into the topic's folder.
type Pattern struct {
	text string
	unit int64 // seconds within which Dir never changes

	cached int64 // the unit that dir was made for
	dir    string
	valid  bool
}

// ParsePattern reads a pattern and refuses what a file system or a reader of
// the files would stumble over.
func ParsePattern(text string) (*Pattern, error) {
	p := &Pattern{text: text, unit: 24 * 3600}
	if text == "" {
		return p, nil
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c < ' ' || c == 0x7f:
			return nil, fmt.Errorf("a control character in a folder's name")
		case c == ':' || c == '\\':
			return nil, fmt.Errorf("%q is not allowed in a folder's name on HDFS", string(c))
		case c != '%':
			continue
		}
		if i++; i == len(text) {
			return nil, fmt.Errorf("a %% at the end; write %%%% for a percent sign")
		}
		switch text[i] {
		case 'Y', 'y', 'm', 'd', 'j', '%':
		case 'H':
			p.unit = min(p.unit, 3600)
		case 'M':
			p.unit = min(p.unit, 60)
		case 'S':
			p.unit = 1
		default:
			return nil, fmt.Errorf("unknown token %%%c; known are %%Y %%m %%d %%H %%M %%S %%j %%y %%%%", text[i])
		}
	}
	for part := range strings.SplitSeq(text, "/") {
		switch {
		case part == "":
			return nil, fmt.Errorf("an empty folder name: no slash at the start or the end, nor two in a row")
		case part[0] == '.' || part[0] == '_':
			return nil, fmt.Errorf("folder %q: Spark and Hive do not see names that begin with a dot or an underscore", part)
		}
	}
	return p, nil
}

// Dir is the folder for a record's timestamp, "" for the empty pattern.
func (p *Pattern) Dir(t time.Time) string {
	if p.text == "" {
		return ""
	}
	unit := floorDiv(t.Unix(), p.unit)
	if !p.valid || unit != p.cached {
		p.cached, p.dir, p.valid = unit, p.format(t.UTC()), true
	}
	return p.dir
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (p *Pattern) format(t time.Time) string {
	var b strings.Builder
	for i := 0; i < len(p.text); i++ {
		if p.text[i] != '%' {
			b.WriteByte(p.text[i])
			continue
		}
		i++
		switch p.text[i] {
		case 'Y':
			fmt.Fprintf(&b, "%04d", t.Year())
		case 'y':
			fmt.Fprintf(&b, "%02d", ((t.Year()%100)+100)%100)
		case 'm':
			fmt.Fprintf(&b, "%02d", int(t.Month()))
		case 'd':
			fmt.Fprintf(&b, "%02d", t.Day())
		case 'j':
			fmt.Fprintf(&b, "%03d", t.YearDay())
		case 'H':
			fmt.Fprintf(&b, "%02d", t.Hour())
		case 'M':
			fmt.Fprintf(&b, "%02d", t.Minute())
		case 'S':
			fmt.Fprintf(&b, "%02d", t.Second())
		case '%':
			b.WriteByte('%')
		}
	}
	return b.String()
}
