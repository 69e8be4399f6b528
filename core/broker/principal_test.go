package broker

import "testing"

// Kafka's documentation of ssl.principal.mapping.rules, and its examples.
func TestPrincipalRules(t *testing.T) {
	const name = "CN=kafka-server1,OU=KAFKA,O=Unknown"
	for rules, want := range map[string]string{
		"": name, "DEFAULT": name,
		"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,DEFAULT":                name,
		"RULE:^CN=(.*?),OU=(.*?),O=(.*?)$/$1@$2/L":                     "kafka-server1@kafka",
		"RULE:^CN=x$/x/,RULE:^CN=([^,]+),.*$/$1x/U,DEFAULT":            "KAFKA-SERVER1X",
		`RULE:^CN=([^,]+),.*$/a\/$1/`:                                  "a/kafka-server1",
		"RULE:CN=kafka-server1/part/":                                  name,
		" RULE:^CN=(.*?),OU=(.*?),O=(.*?)$/$2/ , DEFAULT":              "KAFKA",
		"DEFAULT,RULE:^CN=(.*?),OU=(.*?),O=(.*?)$/never comes so far/": name,
	} {
		to, err := principalRules(rules)
		if err != nil {
			t.Errorf("%s: %v", rules, err)
			continue
		}
		if got := to(name); got != want {
			t.Errorf("%s: %q, want %q", rules, got, want)
		}
	}
	for _, rules := range []string{"RULE", "RULE:a", "RULE:a/b/X", "RULE:(/b/", "NONE", "DEFAULT;DEFAULT"} {
		if _, err := principalRules(rules); err == nil {
			t.Errorf("%s was taken", rules)
		}
	}
}

func FuzzPrincipalRules(f *testing.F) {
	f.Add("RULE:^CN=([^,]+),.*$/$1/L,DEFAULT", "CN=a,O=b")
	f.Fuzz(func(t *testing.T, rules, name string) {
		if to, err := principalRules(rules); err == nil {
			to(name)
		}
	})
}
