// One block per row of the behaviour table: the objects' names are those of data/names.json, the question stands behind
// `?`, the rcode behind `=`, the answer as zone-file lines below it, `+` lines are additional. TTL 5 unless written.

export const rows = `
# 1 ClusterIP: one record per clusterIP of the family, never the endpoints, NodePort, LoadBalancer or external addresses
? web.shop.svc.cluster.local A = NOERROR
web.shop.svc.cluster.local. 5 A 10.96.1.1
? ds.dual.svc.cluster.local AAAA = NOERROR
ds.dual.svc.cluster.local. 5 AAAA fd00:10:96::201
? extip.shop.svc.cluster.local A = NOERROR
extip.shop.svc.cluster.local. 5 A 10.96.1.9
? node.shop.svc.cluster.local A = NOERROR
node.shop.svc.cluster.local. 5 A 10.96.1.7
? web.shop.svc.cluster.local AAAA = NOERROR
? gone.shop.svc.cluster.local A = NXDOMAIN
? gone.shop.svc.cluster.local AAAA = NXDOMAIN
? gone.shop.svc.cluster.local HTTPS = NXDOMAIN
? gone.shop.svc.cluster.local TYPE65280 = NXDOMAIN
# 2 headless: ready endpoints over all slices, duplicates removed; none ready in any family is NXDOMAIN
? multi.hl.svc.cluster.local A = NOERROR
multi.hl.svc.cluster.local. 5 A 10.244.2.60
multi.hl.svc.cluster.local. 5 A 10.244.2.61
multi.hl.svc.cluster.local. 5 A 10.244.2.62
? allunready.hl.svc.cluster.local AAAA = NXDOMAIN
? allunready.hl.svc.cluster.local TXT = NXDOMAIN
? hl6.dual.svc.cluster.local A = NOERROR
? drained.hl.svc.cluster.local A = NXDOMAIN
? early.hl.svc.cluster.local A = NOERROR
early.hl.svc.cluster.local. 5 A 10.244.2.50
early.hl.svc.cluster.local. 5 A 10.244.2.51
# 3 endpoint hostname, several addresses may share it
? set-1.set.hl.svc.cluster.local A = NOERROR
set-1.set.hl.svc.cluster.local. 5 A 10.244.2.11
? n0.hl.dual.svc.cluster.local AAAA = NOERROR
n0.hl.dual.svc.cluster.local. 5 AAAA fd00:10:244::310
? set-1.set.hl.svc.cluster.local AAAA = NOERROR
# 4 generated name for endpoints without a hostname, and only for those
? 10-244-2-20.anon.hl.svc.cluster.local A = NOERROR
10-244-2-20.anon.hl.svc.cluster.local. 5 A 10.244.2.20
? 10-244-2-10.set.hl.svc.cluster.local A = NXDOMAIN
# 5 endpoint names under a ClusterIP Service
? 10-244-1-12.web.shop.svc.cluster.local A = NOERROR
10-244-1-12.web.shop.svc.cluster.local. 5 A 10.244.1.12
# 6 SRV of a named port, ClusterIP: Service port, glue
? _echo._udp.echo.shop.svc.cluster.local SRV = NOERROR
_echo._udp.echo.shop.svc.cluster.local. 5 SRV 0 100 7 echo.shop.svc.cluster.local.
+ echo.shop.svc.cluster.local. 5 A 10.96.1.4
? _m3ua._sctp.sig.shop.svc.cluster.local SRV = NOERROR
_m3ua._sctp.sig.shop.svc.cluster.local. 5 SRV 0 100 2905 sig.shop.svc.cluster.local.
+ sig.shop.svc.cluster.local. 5 A 10.96.1.10
? _http._tcp.ds.dual.svc.cluster.local SRV = NOERROR
_http._tcp.ds.dual.svc.cluster.local. 5 SRV 0 100 80 ds.dual.svc.cluster.local.
+ ds.dual.svc.cluster.local. 5 A 10.96.2.1
+ ds.dual.svc.cluster.local. 5 AAAA fd00:10:96::201
? _nope._tcp.web.shop.svc.cluster.local SRV = NXDOMAIN
? _http._udp.web.shop.svc.cluster.local SRV = NXDOMAIN
? _http._tcp.web.shop.svc.cluster.local A = NOERROR
? http.tcp.web.shop.svc.cluster.local SRV = NXDOMAIN
# 7 SRV of a named port, headless: port of the slice, target is the endpoint
? _http._tcp.mixport.hl.svc.cluster.local SRV = NOERROR
_http._tcp.mixport.hl.svc.cluster.local. 5 SRV 0 50 8080 m0.mixport.hl.svc.cluster.local.
_http._tcp.mixport.hl.svc.cluster.local. 5 SRV 0 50 9090 m1.mixport.hl.svc.cluster.local.
+ m0.mixport.hl.svc.cluster.local. 5 A 10.244.2.70
+ m1.mixport.hl.svc.cluster.local. 5 A 10.244.2.71
# 8 SRV on the bare Service name lists all ports, unnamed ones too
? db.shop.svc.cluster.local SRV = NOERROR
db.shop.svc.cluster.local. 5 SRV 0 100 5432 db.shop.svc.cluster.local.
+ db.shop.svc.cluster.local. 5 A 10.96.1.3
? portless.hl.svc.cluster.local SRV = NOERROR
? portless.hl.svc.cluster.local A = NOERROR
portless.hl.svc.cluster.local. 5 A 10.244.2.40
# 9 unnamed ports have no _x._y name
? _._tcp.db.shop.svc.cluster.local SRV = NXDOMAIN
? _5432._tcp.db.shop.svc.cluster.local SRV = NXDOMAIN
? _tcp.db.shop.svc.cluster.local SRV = NXDOMAIN
# 10 ExternalName
? site.ext.svc.cluster.local CNAME = NOERROR
site.ext.svc.cluster.local. 5 CNAME ext.upstream.test.
# 11 ExternalName is followed, inside and outside, aliases first
? inner.ext.svc.cluster.local A = NOERROR
inner.ext.svc.cluster.local. 5 CNAME web.shop.svc.cluster.local.
web.shop.svc.cluster.local. 5 A 10.96.1.1
? aliased.ext.svc.cluster.local A = NOERROR
aliased.ext.svc.cluster.local. 5 CNAME alias.upstream.test.
alias.upstream.test. 60 CNAME ext.upstream.test.
ext.upstream.test. 60 A 192.0.2.53
? hop1.ext.svc.cluster.local AAAA = NOERROR
hop1.ext.svc.cluster.local. 5 CNAME hop2.ext.svc.cluster.local.
hop2.ext.svc.cluster.local. 5 CNAME ext.upstream.test.
ext.upstream.test. 60 AAAA 2001:db8::53
? inner.ext.svc.cluster.local AAAA = NOERROR
inner.ext.svc.cluster.local. 5 CNAME web.shop.svc.cluster.local.
? dangling.ext.svc.cluster.local A = NXDOMAIN
dangling.ext.svc.cluster.local. 5 CNAME missing.shop.svc.cluster.local.
? dead.ext.svc.cluster.local A = NXDOMAIN
dead.ext.svc.cluster.local. 5 CNAME nx.upstream.test.
? loopa.ext.svc.cluster.local A = SERVFAIL
? selfie.ext.svc.cluster.local A = SERVFAIL
? selfie.ext.svc.cluster.local CNAME = NOERROR
selfie.ext.svc.cluster.local. 5 CNAME selfie.ext.svc.cluster.local.
? ipish.ext.svc.cluster.local A = NOERROR
# 12 nothing exists below an ExternalName
? a.site.ext.svc.cluster.local A = NXDOMAIN
? _http._tcp.site.ext.svc.cluster.local SRV = NXDOMAIN
? google.com.ext.svc.cluster.local A = NXDOMAIN
# 13 reverse of a cluster address, both families; the Service wins over endpoints
? 1.1.96.10.in-addr.arpa PTR = NOERROR
1.1.96.10.in-addr.arpa. 5 PTR web.shop.svc.cluster.local.
? 1.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa PTR = NOERROR
1.0.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. 5 PTR ds.dual.svc.cluster.local.
? 1.1.96.10.in-addr.arpa TXT = NOERROR
# 14 reverse of a ready endpoint: one name per Service that selects it
? 95.2.244.10.in-addr.arpa PTR = NOERROR
95.2.244.10.in-addr.arpa. 5 PTR twin.pa.hl.svc.cluster.local.
95.2.244.10.in-addr.arpa. 5 PTR twin.pb.hl.svc.cluster.local.
? 0.1.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa PTR = NOERROR
0.1.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.1.0.0.0.0.d.f.ip6.arpa. 5 PTR n0.hl.dual.svc.cluster.local.
? 45.2.244.10.in-addr.arpa PTR = NXDOMAIN
? 99.2.244.10.in-addr.arpa PTR = NXDOMAIN
# 15 pod names (insecure mode here)
? 10-1-2-3.shop.pod.cluster.local A = NOERROR
10-1-2-3.shop.pod.cluster.local. 5 A 10.1.2.3
? 10-1-2-3.shop.pod.cluster.local AAAA = NOERROR
? fd00--1.shop.pod.cluster.local AAAA = NOERROR
fd00--1.shop.pod.cluster.local. 5 AAAA fd00::1
? 10-1-2-300.shop.pod.cluster.local A = NXDOMAIN
? 10-1-2-3.nowhere.pod.cluster.local A = NXDOMAIN
? x.10-1-2-3.shop.pod.cluster.local A = NXDOMAIN
# 16 schema version
? dns-version.cluster.local TXT = NOERROR
dns-version.cluster.local. 28800 TXT 1.1.0
? dns-version.cluster.local A = NOERROR
? x.dns-version.cluster.local TXT = NXDOMAIN
# 17 apex
? cluster.local NS = NOERROR
cluster.local. 5 NS ns.dns.cluster.local.
+ ns.dns.cluster.local. 5 A 127.0.0.1
? cluster.local A = NOERROR
# 18 the server's own name
? ns.dns.cluster.local A = NOERROR
ns.dns.cluster.local. 5 A 127.0.0.1
? ns.dns.cluster.local AAAA = NOERROR
# 19 empty non-terminals
? svc.cluster.local A = NOERROR
? pod.cluster.local TXT = NOERROR
? shop.svc.cluster.local A = NOERROR
? vacant.svc.cluster.local A = NOERROR
? shop.pod.cluster.local A = NOERROR
? dns.cluster.local A = NOERROR
? _tcp.web.shop.svc.cluster.local SRV = NOERROR
? nowhere.svc.cluster.local A = NXDOMAIN
? nowhere.pod.cluster.local A = NXDOMAIN
# 20 more labels than any form has, other trees, old and federation forms
? a.b.c.web.shop.svc.cluster.local A = NXDOMAIN
? foo.cluster.local A = NXDOMAIN
? web.shop.cluster.local A = NXDOMAIN
? web.shop.fed.svc.cluster.local A = NXDOMAIN
? x.y._tcp.web.shop.svc.cluster.local SRV = NXDOMAIN
# 21 no wildcards
? *.shop.svc.cluster.local A = NXDOMAIN
? any.shop.svc.cluster.local A = NXDOMAIN
? *.*.web.shop.svc.cluster.local SRV = NXDOMAIN
# ANY gets one RRset
? set.hl.svc.cluster.local ANY = NOERROR
set.hl.svc.cluster.local. 5 A 10.244.2.10
set.hl.svc.cluster.local. 5 A 10.244.2.11
? site.ext.svc.cluster.local ANY = NOERROR
site.ext.svc.cluster.local. 5 CNAME ext.upstream.test.
`;

/** The same with pods verified. */
export const verifiedRows = `
? 10-244-1-11.shop.pod.cluster.local A = NOERROR
10-244-1-11.shop.pod.cluster.local. 5 A 10.244.1.11
? fd00-10-244--310.dual.pod.cluster.local AAAA = NOERROR
fd00-10-244--310.dual.pod.cluster.local. 5 AAAA fd00:10:244::310
? 10-244-1-99.shop.pod.cluster.local A = NXDOMAIN
? 10-244-1-11.hl.pod.cluster.local A = NXDOMAIN
`;

/** The same with pods disabled. */
export const disabledRows = `
? 10-244-1-11.shop.pod.cluster.local A = NXDOMAIN
? shop.pod.cluster.local A = NXDOMAIN
? pod.cluster.local A = NOERROR
`;

/** The same with zonal names on. */
export const zonalRows = `
? zone-a.pin._zone.set.hl.svc.cluster.local A = NOERROR
zone-a.pin._zone.set.hl.svc.cluster.local. 5 A 10.244.2.10
? zone-c.pin._zone.set.hl.svc.cluster.local A = NOERROR
? zone-c.other._zone.set.hl.svc.cluster.local A = NXDOMAIN
? zone-a.pin._zone.web.shop.svc.cluster.local A = NXDOMAIN
`;
