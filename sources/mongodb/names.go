package mongodb

import (
	"fmt"
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// namespace is a collection's full name. A database's name has no dot; a collection's may have some.
type namespace struct{ db, coll string }

func (n namespace) String() string { return n.db + "." + n.coll }

func parseNamespace(text string) namespace {
	db, coll, _ := strings.Cut(text, ".")
	return namespace{db, coll}
}

// passing are the names of collections that the server makes for a moment: for $out, mapReduce, a rename into another database, and convertToCapped. Each
// has a new one, and takes its place by a rename, which comes by the name that it gets (document_source_out.cpp, rename_collection.cpp, capped_utils.cpp).
var passing = regexp.MustCompile(`^tmp(\.agg_out\.|\.mr\.|[0-9A-Za-z]{5}\.(renameCollection$|convertToCapped\.))`)

// internal says that MongoDB keeps it for itself.
func (n namespace) internal() bool {
	return n.db == "admin" || n.db == "local" || n.db == "config" || strings.HasPrefix(n.coll, "system.") || passing.MatchString(n.coll)
}

// pattern is an entry of collections: database.collection, with wildcards.
type pattern struct {
	text     string
	db, coll *regexp.Regexp
	literal  *namespace // without wildcards
	oneDB    string     // "": the database has wildcards
}

func parsePattern(text string) (pattern, error) {
	db, coll, ok := strings.Cut(text, ".")
	if !ok || db == "" || coll == "" {
		return pattern{}, fmt.Errorf("%q is not database.collection", text)
	}
	if (namespace{db, coll}).internal() {
		return pattern{}, fmt.Errorf("%q is one of MongoDB's own collections", text)
	}
	p := pattern{text: text, db: wildcard(db), coll: wildcard(coll)}
	if !strings.ContainsAny(db, "*?") {
		p.oneDB = db
		if !strings.ContainsAny(coll, "*?") {
			p.literal = &namespace{db, coll}
		}
	}
	return p, nil
}

// wildcard makes a regular expression that Go and PCRE read alike.
func wildcard(text string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for _, r := range text {
		switch r {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String()) // every part is quoted
}

func (p *pattern) matches(n namespace) bool {
	return p.db.MatchString(n.db) && p.coll.MatchString(n.coll)
}

func (s *source) matches(n namespace) bool {
	if n.internal() || n.coll == "" {
		return false
	}
	for i := range s.cfg.collections {
		if s.cfg.collections[i].matches(n) {
			return true
		}
	}
	return false
}

// oneDatabase is the database that all collections lie in; "" when there may be several.
func (s *source) oneDatabase() string {
	db := s.cfg.collections[0].oneDB
	for i := range s.cfg.collections {
		if s.cfg.collections[i].oneDB != db {
			return ""
		}
	}
	return db
}

// filter is the $match of the change stream: events of our collections, and those that end or
// move one. A rename has the new name in `to`.
func (s *source) filter() bson.D {
	or := bson.A{bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: bson.A{"dropDatabase", "invalidate"}}}}}}
	for i := range s.cfg.collections {
		p := &s.cfg.collections[i]
		for _, field := range []string{"ns", "to"} {
			if p.literal != nil {
				or = append(or, bson.D{{Key: field + ".db", Value: p.literal.db}, {Key: field + ".coll", Value: p.literal.coll}})
				continue
			}
			db := any(bson.Regex{Pattern: p.db.String()})
			if p.oneDB != "" {
				db = p.oneDB
			}
			or = append(or, bson.D{{Key: field + ".db", Value: db}, {Key: field + ".coll", Value: bson.Regex{Pattern: p.coll.String()}}})
		}
	}
	return bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: or}}}}
}

// topic is where a collection's changes go.
func (s *source) topic(n namespace) string {
	return s.env.Name + "." + topicPart(n.db) + "." + topicPart(n.coll)
}

// topicPart replaces what a topic's name may not hold, as Debezium does.
func topicPart(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}
