package metadata

import (
	"fmt"
	"strings"
)

// MaxTopicName is Kafka's limit: with "-<partition>" after it a folder's name
// stays within the 255 bytes of common file systems.
const MaxTopicName = 249

// ValidateTopicName keeps Kafka's rules (org.apache.kafka.common.internals.Topic): 1 to
// 249 of ASCII letters, digits, '.', '_' and '-', not "." and not "..". The error is an ErrInvalidTopic.
func ValidateTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: the empty string is not allowed", ErrInvalidTopic)
	case name == "." || name == "..":
		return fmt.Errorf("%w: '%s' is not allowed", ErrInvalidTopic, name)
	case len(name) > MaxTopicName:
		return fmt.Errorf("%w: the length of '%s' is longer than the max allowed length %d", ErrInvalidTopic, name, MaxTopicName)
	}
	for i := 0; i < len(name); i++ {
		if !topicByte(name[i]) {
			return fmt.Errorf("%w: '%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", ErrInvalidTopic, name)
		}
	}
	return nil
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// Collision finds a topic that differs from name only by '.' against '_': metric
// names of Kafka's tools write both as '_', so Kafka refuses the second.
func (i *Image) Collision(name string) string {
	if !strings.ContainsAny(name, "._") {
		return ""
	}
	flat := strings.ReplaceAll(name, ".", "_")
	found := ""
	for other := range i.Topics {
		if len(other) == len(name) && other != name && strings.ReplaceAll(other, ".", "_") == flat && (found == "" || other < found) {
			found = other
		}
	}
	return found
}
