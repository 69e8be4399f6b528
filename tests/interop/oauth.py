"""confluent-kafka (librdkafka) with tokens against the node at argv[1], from the OAuth server at argv[2]: svc may do everything, also when its token is
over and librdkafka has come again with another; stranger nothing; and a token without a signature is nobody's. Ends with 1 and a line at the first surprise."""
import base64
import json
import sys
import time
import urllib.request

from confluent_kafka import Consumer, KafkaError, Producer

addr, url = sys.argv[1:3]
fetched = 0


def check(ok, what):
    if not ok:
        print("wrong:", what)
        sys.exit(1)


def token(client):
    def get(_):
        global fetched
        fetched += 1
        r = urllib.request.Request(url, data=b"grant_type=client_credentials")
        r.add_header("Authorization", "Basic " + base64.b64encode(f"{client}:{client}-secret".encode()).decode())
        with urllib.request.urlopen(r, timeout=10) as f:
            said = json.load(f)
        return said["access_token"], time.time() + said["expires_in"]
    return get


def unsigned(_):
    def part(v):
        return base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip("=")
    now = int(time.time())
    return part({"alg": "none"}) + "." + part({"sub": "svc", "iss": "https://idp", "aud": "hub", "iat": now, "exp": now + 600}) + ".", now + 600


def conf(get, **more):
    return {"bootstrap.servers": addr, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": get, **more}


def produce(p, times=1):
    errors = []
    for _ in range(times):
        p.produce("orders", b"line of confluent", callback=lambda err, _: errors.append(err))
        if times > 1:
            p.poll(0)
            time.sleep(0.25)
    check(p.flush(30) == 0, "the producer was told nothing")
    return errors


c = Consumer(conf(token("svc"), **{"group.id": "shop", "auto.offset.reset": "earliest"}))
c.subscribe(["orders"])
errors = produce(Producer(conf(token("svc"))), times=24)  # longer than a token lasts
check(len(errors) == 24 and not any(errors), f"svc: {errors}")
check(fetched >= 4, f"{fetched} tokens were fetched")
seen = 0
while seen < 24:
    m = c.poll(30)
    check(m is not None and not m.error(), f"{seen} records, then {m and m.error()}")
    seen += m.value() == b"line of confluent"
c.close()

err = produce(Producer(conf(token("stranger"))))[0]
check(err is not None and err.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, f"stranger: {err}")

refused = []
p = Producer(conf(unsigned, error_cb=refused.append))
p.produce("orders", b"v")
end = time.time() + 20
while not any(e.code() == KafkaError._AUTHENTICATION for e in refused) and time.time() < end:
    p.poll(0.1)
check(any(e.code() == KafkaError._AUTHENTICATION for e in refused), f"without a signature: {refused}")
p.purge()
print("ok")
