import { COUNTS, type DictionaryName, PORTS, READ_COUNTS, SPARSE, type SparseName } from '../../model/row-columns.ts'
import { OWN_FIELDS } from './own-fields.ts'

/**
 * Source of the function that decodes one access log entry into one builder's columns. It is generated, because what
 * makes it fast cannot be written by hand and kept right: one straight run through the fields in the order Envoy writes
 * them (by field number), every varint, length and address expanded in place, and every buffer a constant.
 *
 * For each message there is one chain: `if (tag === first) {…; read the next tag} if (tag === second) …`. A field that
 * comes out of order starts the chain again; one that the chain does not know is skipped. The set of known tags is made
 * from the chain itself, so a known tag is always consumed and the loop always moves on.
 *
 * What is not in its usual short form (varints over 28 bits, repeated messages, other kinds of addresses) is left to
 * `wire.ts`. Reads stay inside the buffer because the caller guarantees `SLACK` bytes after the entry; every length is
 * checked against the end of its message before the bytes are used.
 */

/** Bytes that can be read after the end of an entry: a tag and a varint, before the position is checked. */
export const SLACK = 16

/** What a row function returns beside 1 + the table that the entry belongs to. */
export const ROW_ADDED = 0
export const ROW_MALFORMED = -1
/** Something is full that the row began to use: it must be undone. */
export const ROW_EXHAUSTED = -2
/** There is no place for a row; nothing was begun. */
export const ROW_FULL = -3

const sparse = (name: SparseName): number => SPARSE.indexOf(name)

interface Field {
  readonly tag: number
  readonly code: string
  readonly repeated?: true
}

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const tag = (field: number, type: number): number => (field << 3) | type

/** A varint into `x`. Up to 31 bits in place. */
const varint = (x: string): string => `${x}=b[p++];
if(${x}>127){y=b[p++];${x}=${x}&127|(y&127)<<7;
if(y>127){y=b[p++];${x}|=(y&127)<<14;
if(y>127){y=b[p++];${x}|=(y&127)<<21;
if(y>127){y=b[p++];if(y<8)${x}|=y<<28;else{p=readVarint(b,p-5,wide);if(p<0)return -1;${x}=wide.value}}}}}`

/** A length into `l`, checked against `end`. */
const length = (end: string): string => `l=b[p++];
if(l>127){y=b[p++];l=l&127|(y&127)<<7;if(y>127){p=readVarint(b,p-2,wide);if(p<0)return -1;l=wide.int}}
if(p+l>${end})return -1;`

const TAG = `t=b[p++];
if(t>127){y=b[p++];t=t&127|y<<7;if(y>127){p=readVarint(b,p-2,wide);if(p<0||wide.value>4294967295)return -1;t=wide.value|0}}`

/** Seconds and nanoseconds into `s` and `x`, when they are in order and small; `p === q` afterwards when so. */
const secondsAndNanos = `s=0;x=0;
if(p<q&&b[p]===8){p++;${varint('s')}}
if(p<q&&b[p]===16){p++;${varint('x')}}`

/**
 * A Duration into `v`, in ns. Most are nanoseconds alone, of one to four bytes: `length 0x10 varint`. Those are taken out of
 * one word without a branch on how many bytes they have, which nothing could predict.
 */
const duration = (v: string, end: string): string => `x=dv.getInt32(p,true);l=x&255;s=40-(l<<3);
if((x&65280)===4096&&l>1&&l<6&&p+l<${end}&&${v}<0&&((y=dv.getInt32(p+2,true)&-1>>>s)&0x80808080)===0x808080>>>s){
p+=l+1;${v}=y&127|y>>>1&16256|y>>>2&2080768|y>>>3&266338304}
else{${length(end)}q=p+l;
if(${v}<0){${secondsAndNanos}
if(p===q&&s<1000000000&&x<1000000000)${v}=s===0?x:s*1e9+x;
else{p=q;${v}=readDuration(b,q-l,q,${v},wide);if(${v}<0)return -1}
}else{p=q;${v}=readDuration(b,q-l,q,${v},wide);if(${v}<0)return -1}}`

/** A number. */
const number = (v: string): string => `${varint('x')}${v}=x;`

/** A text of a dense dictionary column. */
const text = (v: string, name: DictionaryName, last = false): string =>
  `${length('e1')}${v}=${last ? 'internLast' : 'intern'}(d_${name},b,dv,p,l);p+=l;`

/** A text of a sparse dictionary column. */
const sparseText = (name: DictionaryName & SparseName, end = 'e1'): string =>
  `${length(end)}c_${name}[i]=internLast(d_${name},b,dv,p,l);touched[${sparse(name)}]=1;p+=l;`

/** Position and length of a text that is written at the end of the row. */
const place = (v: string): string => `${length('e1')}${v}S=p;${v}L=l;p+=l;`

/** An address: `socket_address { address, port_value }`, the only form Envoy writes for IP, in place. */
const address = (v: string, name: DictionaryName, masked: boolean, last = false): string => {
  const interned = `${masked ? 'internMasked' : last ? 'internLast' : 'intern'}(d_${name},b,dv,p,l)`
  return `${length('e1')}q=p+l;s=p;
if(l>3&&l<128&&b[p]===10&&b[p+1]===l-2&&b[p+2]===18&&p+4+(l=b[p+3])<=q){p+=4;a${v}=${interned};p+=l;p${v}=0;
if(p<q&&b[p]===24){p++;${varint('x')}p${v}=x>65535?0:x}}
if(p!==q){a${v}=otherAddress(d_${name},b,s,q,${masked});if(a${v}<0)return -1;p${v}=other.port;p=q}`
}

const mapEntry = (map: string, which: number): string =>
  `${length('e1')}if(mapEntry(${map},b,dv,p,p+l,i,${which})<0)return -1;p+=l;`

function chain(fields: readonly Field[], bit: number, known: Uint8Array, onSkipped = ''): string {
  for (const field of fields) known[field.tag]! |= bit
  const steps = fields.map(
    ({ tag, code, repeated }) =>
      `${repeated === true ? 'while' : 'if'}(t===${tag}){${code}\nif(p>=e1)break seq;ts=p;${TAG}}`,
  )
  return `seq:while(p<e1){ts=p;${TAG}
${steps.join('\n')}
if((t>>>0)<512&&(known[t]&${bit})!==0){p=ts;continue}
p=skipField(b,p,e1,t,wide);if(p<0)return -1;${onSkipped}
}
if(p!==e1)return -1;`
}

/** Bits of `map` in `mapEntry`: where a header came from. */
export const REQUEST_HEADERS = 1
export const RESPONSE_HEADERS = 2
export const RESPONSE_TRAILERS = 4
export const CUSTOM_TAGS = 8

function commonProperties(masked: boolean): Field[] {
  const points = ['t0', 't1', 't2', 't3', 't4', 't5', 't6']
  return [
    {
      tag: tag(1, FIXED64),
      code: `if(p+8>e1)return -1;x=dv.getFloat64(p,true);p+=8;if(x!==0){c_sample_rate[i]=x;touched[${sparse('sample_rate')}]=1}`,
    },
    { tag: tag(2, BYTES), code: `rS=p;${address('R', 'downstream_remote_address', masked)}rL=p-rS;` },
    { tag: tag(3, BYTES), code: address('L', 'downstream_local_address', false, true) },
    { tag: tag(4, BYTES), code: `${length('e1')}if(tls(b,dv,p,p+l,i)<0)return -1;p+=l;` },
    {
      tag: tag(5, BYTES),
      code: `${length('e1')}q=p+l;
if(stS===0&&stN===0){${secondsAndNanos}
if(p===q&&s<2147483648&&x<1000000000){stS=s;stN=x}
else{if(!startTime(b,q-l,q,0,0))return -1;stS=start.seconds;stN=start.nanos;p=q}
}else{if(!startTime(b,q-l,q,stS,stN))return -1;stS=start.seconds;stN=start.nanos;p=q}`,
    },
    ...points.map((point, k) => ({ tag: tag(6 + k, BYTES), code: duration(point, 'e1') })),
    { tag: tag(13, BYTES), code: address('U', 'upstream_remote_address', false) },
    { tag: tag(14, BYTES), code: address('X', 'upstream_local_address', false, true) },
    { tag: tag(15, BYTES), code: text('cl', 'upstream_cluster') },
    {
      tag: tag(16, BYTES),
      code: `${length('e1')}q=p+l;
while(p<q){${TAG}
if((t&7)===0&&(t>>>0)<232&&t!==0&&t!==104){${varint('x')}if(x!==0)fl|=1<<(t>>>3)-1;else fl&=~(1<<(t>>>3)-1)}
else{p=otherFlag(b,p,q,t,i);if(p<0)return -1;if(t===106)fl|=4096}}
if(p!==q)return -1;`,
    },
    {
      tag: tag(17, BYTES),
      code: `${length('e1')}if(mdL<0){mdS=p;mdL=l}else{mdL=joinMetadata(b,mdS,mdL,p,l);mdS=-1}p+=l;`,
    },
    { tag: tag(18, BYTES), code: sparseText('upstream_transport_failure') },
    { tag: tag(19, BYTES), code: text('ro', 'route') },
    {
      tag: tag(20, BYTES),
      // Mostly the same bytes, length included, as the remote address, and the dictionary is the same.
      code: `if(rL>4&&p+rL<=e1&&sameBytes(b,dv,rS,p,rL)){aD=aR;pD=pR;p+=rL}else{${address('D', 'downstream_direct_address', masked)}}`,
    },
    { tag: tag(21, BYTES), code: `${length('e1')}if(filterState(b,dv,p,p+l)<0)return -1;p+=l;`, repeated: true },
    { tag: tag(22, BYTES), code: mapEntry('m_custom_tags', CUSTOM_TAGS), repeated: true },
    { tag: tag(23, BYTES), code: duration('du', 'e1') },
    { tag: tag(24, VARINT), code: `${varint('x')}at=x>4294967295?x%4294967296:x;` },
    { tag: tag(25, BYTES), code: sparseText('connection_termination_details') },
    { tag: tag(26, BYTES), code: place('sid') },
    {
      tag: tag(27, VARINT),
      code: `${varint('x')}c_intermediate[i]=x!==0?1:0;if(x!==0)touched[${sparse('intermediate')}]=1;`,
    },
    { tag: tag(28, BYTES), code: sparseText('downstream_transport_failure') },
    { tag: tag(29, VARINT), code: number('downstream_wire_sent') },
    { tag: tag(30, VARINT), code: number('downstream_wire_received') },
    { tag: tag(31, VARINT), code: number('upstream_wire_sent') },
    { tag: tag(32, VARINT), code: number('upstream_wire_received') },
    { tag: tag(33, VARINT), code: `${varint('x')}ty=x>14?15:x;` },
  ]
}

const REQUEST: readonly Field[] = [
  { tag: tag(1, VARINT), code: `${varint('x')}meth=x>9?0:x;` },
  { tag: tag(2, BYTES), code: text('sc', 'scheme', true) },
  { tag: tag(3, BYTES), code: text('au', 'authority') },
  {
    tag: tag(4, BYTES),
    code: `${length('e1')}x=readWrapped(b,p,p+l,c_port[i],wide);if(x<0)return -1;p+=l;c_port[i]=x>65535?0:x;touched[${sparse('port')}]=1;`,
  },
  { tag: tag(5, BYTES), code: place('pa') },
  { tag: tag(6, BYTES), code: text('ua', 'user_agent', true) },
  {
    tag: tag(7, BYTES),
    code: `${length('e1')}c_referer[i]=internUrl(d_referer,b,dv,p,l);touched[${sparse('referer')}]=1;p+=l;`,
  },
  { tag: tag(8, BYTES), code: '' },
  { tag: tag(9, BYTES), code: place('rid') },
  { tag: tag(10, BYTES), code: place('op') },
  { tag: tag(11, VARINT), code: number('request_headers_bytes') },
  { tag: tag(12, VARINT), code: number('request_body_bytes') },
  { tag: tag(13, BYTES), code: mapEntry('m_request_headers', REQUEST_HEADERS), repeated: true },
  { tag: tag(14, VARINT), code: number('upstream_header_sent') },
  { tag: tag(15, VARINT), code: number('downstream_header_received') },
]

function request(masked: boolean): Field[] {
  const forwardedFor = masked
    ? `${length('e1')}fw=internMasked(d_forwarded_for,b,dv,p,l);p+=l;`
    : text('fw', 'forwarded_for', true)
  return REQUEST.map((field) => (field.tag === tag(8, BYTES) ? { tag: field.tag, code: forwardedFor } : field))
}

const RESPONSE: readonly Field[] = [
  {
    tag: tag(1, BYTES),
    code: `${length('e1')}
if(code<0&&l===2&&b[p]===8&&b[p+1]<128){code=b[p+1];p+=2}
else if(code<0&&l===3&&b[p]===8&&b[p+2]<128){code=b[p+1]&127|b[p+2]<<7;p+=3}
else{code=readWrapped(b,p,p+l,code,wide);if(code<0)return -1;p+=l}`,
  },
  { tag: tag(2, VARINT), code: number('response_headers_bytes') },
  { tag: tag(3, VARINT), code: number('response_body_bytes') },
  { tag: tag(4, BYTES), code: mapEntry('m_response_headers', RESPONSE_HEADERS), repeated: true },
  { tag: tag(5, BYTES), code: mapEntry('m_response_trailers', RESPONSE_TRAILERS), repeated: true },
  { tag: tag(6, BYTES), code: text('de', 'response_code_details', true) },
  { tag: tag(7, VARINT), code: number('upstream_header_received') },
  { tag: tag(8, VARINT), code: number('downstream_header_sent') },
]

/** TLS properties of the downstream connection. Out of line: half of the meshes have none. */
const TLS = `function tls(b,dv,p,e,i){
let t=0,l=0,x=0,y=0;
while(p<e){${TAG}switch(t){
case 8:${varint('x')}c_tls_version[i]=x>4?0:x;touched[${sparse('tls_version')}]=1;break;
case 18:${length('e')}x=readWrapped(b,p,p+l,c_tls_cipher[i],wide);if(x<0)return -1;p+=l;c_tls_cipher[i]=x>65535?0:x;touched[${sparse('tls_cipher')}]=1;break;
case 26:${sparseText('sni', 'e')}break;
case 34:${length('e')}if(certificate(b,dv,p,p+l,i,false)<0)return -1;p+=l;break;
case 42:${length('e')}if(certificate(b,dv,p,p+l,i,true)<0)return -1;p+=l;break;
case 50:${sparseText('tls_session', 'e')}break;
case 58:${sparseText('ja3', 'e')}break;
default:p=skipField(b,p,e,t,wide);if(p<0)return -1;
}}
return p===e?p:-1;
}
function certificate(b,dv,p,e,i,peer){
let t=0,l=0,y=0;
while(p<e){${TAG}switch(t){
case 10:{${length('e')}const q=p+l;
if(l>1&&l<130&&(b[p]===10||b[p]===18)&&b[p+1]===l-2&&(q>=e||b[q]!==10)&&(peer?c_peer_san[i]:c_local_san[i])===0){
if(peer){c_peer_san[i]=internLast(d_peer_san,b,dv,p+2,l-2);touched[${sparse('peer_san')}]=1}
else{c_local_san[i]=internLast(d_local_san,b,dv,p+2,l-2);touched[${sparse('local_san')}]=1}
p=q}
else{p=peer?joinSans(d_peer_san,c_peer_san,b,p,q,e,i):joinSans(d_local_san,c_local_san,b,p,q,e,i);if(p<0)return -1;touched[peer?${sparse('peer_san')}:${sparse('local_san')}]=1}
break}
case 18:${length('e')}if(peer){c_peer_subject[i]=internLast(d_peer_subject,b,dv,p,l);touched[${sparse('peer_subject')}]=1}
else{c_local_subject[i]=internLast(d_local_subject,b,dv,p,l);touched[${sparse('local_subject')}]=1}p+=l;break;
case 26:${length('e')}if(peer){c_peer_issuer[i]=internLast(d_peer_issuer,b,dv,p,l);touched[${sparse('peer_issuer')}]=1}
else{c_local_issuer[i]=internLast(d_local_issuer,b,dv,p,l);touched[${sparse('local_issuer')}]=1}p+=l;break;
default:p=skipField(b,p,e,t,wide);if(p<0)return -1;
}}
return p===e?p:-1;
}`

/** One entry of a map of texts. Names were looked at when they were first seen: `act` says what their values need. */
const MAP_ENTRY = `function mapEntry(map,b,dv,p,e,i,which){
let t=0,l=0,y=0,ks=0,kl=0,vs=0,vl=0;
while(p<e){${TAG}
if(t===10){${length('e')}ks=p;kl=l;p+=l}
else if(t===18){${length('e')}vs=p;vl=l;p+=l}
else{p=skipField(b,p,e,t,wide);if(p<0)return -1}}
if(p!==e)return -1;
if(map.rowEntries>=MAP_ENTRIES_MAX){room.cut++;return p}
const key=internLast(map.keys,b,dv,ks,kl),act=map.keys.act[key];
if(act!==0){
if(act===TRACEPARENT){if(which===${REQUEST_HEADERS}&&traceparent(b,dv,vs,vl,i))return p}
else if(special(map,key,act,b,dv,vs,vl,i,which))return p}
if(vl>TEXT_MAX){vl=cutLength(b,vs,TEXT_MAX);room.cut++}
map.put(key,b,dv,vs,vl);
return p;
}`

/**
 * `OwnFields` of our own receivers, see `own-fields.ts`. Leaves the flags in `S.flags`. Codes of peers are those of any
 * filter state object; a status counts where neither header nor trailer has one.
 */
const OWN = `function own(b,dv,p,e,i){
let t=0,l=0,x=0,y=0;S.flags=0;S.answered=0;
while(p<e){${TAG}switch(t){
case 8:${varint('x')}if(x<=255&&S.grpcTrailer<0&&S.grpcHeader<0)S.grpcTrailer=x;break;
case 16:${varint('x')}S.flags=x&DETAILS_FLAGS;break;
case 26:${sparseText('flags_text', 'e')}break;
case 34:${sparseText('listener', 'e')}break;
case 42:${sparseText('path_template', 'e')}break;
case 50:${length('e')}S.downstreamPeer=intern(d_raw,b,dv,p,l);p+=l;break;
case 58:${length('e')}S.upstreamPeer=intern(d_raw,b,dv,p,l);p+=l;break;
case 64:${varint('x')}S.answered=x;break;
default:p=skipField(b,p,e,t,wide);if(p<0)return -1;
}}
return p===e?p:-1;
}`

const FILTER_STATE = `function filterState(b,dv,p,e){
let t=0,l=0,y=0,ks=0,kl=0,vs=0,vl=0;
while(p<e){${TAG}
if(t===10){${length('e')}ks=p;kl=l;p+=l}
else if(t===18){${length('e')}vs=p;vl=l;p+=l}
else{p=skipField(b,p,e,t,wide);if(p<0)return -1}}
if(p!==e)return -1;
if(m_filter_state.rowEntries>=MAP_ENTRIES_MAX){room.cut++;return p}
const key=intern(m_filter_state.keys,b,dv,ks,kl),raw=intern(d_raw,b,dv,vs,vl);
let value=d_raw.act[raw];
if(value===0&&raw!==0)value=filterStateValue(raw);
m_filter_state.putCode(key,value);
const peer=m_filter_state.keys.act[key];
if(peer!==0)seePeer(S,peer,raw);
return p;
}`

/** Every count has a variable named like its column. High words are rare, and looked at together. */
const countsWritten = `${READ_COUNTS.map((name) => `c_${name}[i]=${name};`).join('')}
${COUNTS.map((name) => `c_${name}[i2]=${name};`).join('')}
if(${COUNTS.map((name) => `${name}>4294967295`).join('||')}){C.wide=true;
${COUNTS.map((name) => `c_${name}[i2+1]=${name}/4294967296;`).join('')}}`
const PORT_OF: Readonly<Record<string, string>> = {
  upstream_remote_port: 'pU',
  upstream_local_port: 'pX',
  downstream_remote_port: 'pR',
  downstream_direct_port: 'pD',
  downstream_local_port: 'pL',
}
const CODE_OF: Readonly<Partial<Record<DictionaryName, string>>> = {
  route: 'ro',
  upstream_cluster: 'cl',
  upstream_remote_address: 'aU',
  upstream_local_address: 'aX',
  downstream_remote_address: 'aR',
  downstream_direct_address: 'aD',
  downstream_local_address: 'aL',
  scheme: 'sc',
  authority: 'au',
  user_agent: 'ua',
  forwarded_for: 'fw',
  response_code_details: 'de',
}
const POINT_VARIABLES = ['t0', 't1', 't2', 't3', 't4', 't5', 't6']

/** Most rows are plain successes: the first rule of `classify`, without the call. */
const classified = (table: number): string =>
  table === 2
    ? 'const classified=classify(code,fl,grpc,details,false,http,t3>=0||an===1);'
    : 'const classified=code===200&&fl===0&&details===DETAILS_UPSTREAM&&grpc<=0?PLAIN_SUCCESS:an===2?classifyUntold(code,fl,grpc,details,true,http):classify(code,fl,grpc,details,true,http,t3>=0||an===1);'

export interface RowSource {
  /** Body of a function of the bindings that `decode.ts` gives it; it returns the row function. */
  readonly source: string
  /** Tags that the chains know, one bit for each chain; a binding. */
  readonly known: Uint8Array
}

export interface RowSourceOptions {
  /** Index (in `ROW_TABLES`) of the table whose rows this function takes. */
  readonly table: number
  readonly maskAddresses: boolean
  /** Names of the functions and objects that `row-function.ts` binds. */
  readonly bindings: readonly string[]
}

/** `row(bytes, view, start, end, stream, isTcp)` of one table, as source. */
export function rowSource({ table, maskAddresses, bindings }: RowSourceOptions): RowSource {
  const known = new Uint8Array(512)
  const names: DictionaryName[] = [...new Set(Object.keys(CODE_OF))] as DictionaryName[]
  const sparseNames: (DictionaryName & SparseName)[] = [
    'listener',
    'path_template',
    'referer',
    'flags_text',
    'connection_termination_details',
    'upstream_transport_failure',
    'downstream_transport_failure',
    'sni',
    'ja3',
    'tls_session',
    'peer_san',
    'peer_subject',
    'peer_issuer',
    'local_san',
    'local_subject',
    'local_issuer',
  ]
  const constants = [
    ...[
      'stream',
      'identity',
      'endSeconds',
      'endNanos',
      'received',
      'duration',
      'code',
      'grpcStatus',
      'flags',
      'attempts',
    ],
    ...['mutualTls', 'streamIsRequest', 'kind', 'entryType', 'outcome', 'responseClass', 'protocol', 'method'],
    ...['requestUuid', 'streamUuid'],
  ].map((name) => `const c_${name}=C.${name};`)
  const source = `'use strict';
// Rows of table ${table}: the text differs from table to table, so that each gets machine code of its own.
const {${bindings.join(',')}}=B,{known}=B;
${constants.join('')}
${POINT_VARIABLES.map((point, k) => `const c_${point}=C.points[${k}];`).join('')}
${READ_COUNTS.map((name) => `const c_${name}=C.readCounts.${name};`).join('')}
${COUNTS.map((name) => `const c_${name}=C.counts.${name};`).join('')}
${PORTS.map((name) => `const c_${name}=C.ports.${name};`).join('')}
${[...names, ...sparseNames].map((name) => `const c_${name}=C.codes.${name},d_${name}=C.dictionaries.${name};`).join('')}
${['port', 'tls_cipher', 'tls_version', 'intermediate', 'sample_rate'].map((name) => `const c_${name}=C.numbers.${name};`).join('')}
${['request_headers', 'response_headers', 'response_trailers', 'custom_tags'].map((name) => `const m_${name}=C.maps.${name};`).join('')}
const o_request=m_request_headers.offsets,o_response=m_response_headers.offsets,o_trailers=m_response_trailers.offsets,o_tags=m_custom_tags.offsets,o_filter=C.filterState.offsets;
const m_filter_state=C.filterState,d_raw=C.filterStateRaw,touched=C.touched,room=C.room,identities=C.identities;
const h_path=C.heaps.path,h_original=C.heaps.original_path,h_request=C.heaps.request_text,h_stream=C.heaps.stream_text,h_metadata=C.heaps.metadata;
${TLS}
${MAP_ENTRY}
${FILTER_STATE}
${OWN}
return function row(b,dv,p,e,stream,isTcp){
const i=C.rows;
if(i>=C.limit)return ${ROW_FULL};
C.begin();
S.grpcHeader=-1;S.grpcTrailer=-1;S.downstreamPeer=0;S.upstreamPeer=0;S.downstreamRank=0;S.upstreamRank=0;S.traced=0;S.spanned=0;
let t=0,l=0,x=0,y=0,s=0,q=0,e1=0,ts=0;
let t0=-1,t1=-1,t2=-1,t3=-1,t4=-1,t5=-1,t6=-1,du=-1,stS=0,stN=0;
let cl=0,ro=0,au=0,sc=0,ua=0,fw=0,de=0,aR=0,aD=0,aL=0,aU=0,aX=0,pR=0,pD=0,pL=0,pU=0,pX=0;
let fl=0,an=0,at=0,code=-1,meth=0,proto=0,ty=0,requestBytes=0;
let ${[...READ_COUNTS, ...COUNTS].map((name) => `${name}=0`).join(',')};
let rS=0,rL=0,sidS=0,sidL=0,ridS=0,ridL=0,paS=0,paL=0,opS=0,opL=0,mdS=0,mdL=-1;
while(p<e){${TAG}switch(t){
case 10:${length('e')}e1=p+l;
${chain(commonProperties(maskAddresses), 1, known)}
break;
case 16:${varint('x')}if(!isTcp)proto=x>4?0:x;break;
case 18:if(!isTcp){p=skipField(b,p,e,t,wide);if(p<0)return -1;break}
${length('e')}e1=p+l;
while(p<e1){${TAG}
if(t===8){${number('request_body_bytes')}}else if(t===16){${number('response_body_bytes')}}
else{p=skipField(b,p,e1,t,wide);if(p<0)return -1}}
if(p!==e1)return -1;
break;
case 26:${length('e')}if(isTcp){p+=l;break}e1=p+l;requestBytes+=l;
${chain(request(maskAddresses), 2, known, 'requestBytes-=p-ts;')}
break;
case 34:${length('e')}if(isTcp){p+=l;break}e1=p+l;
${chain(RESPONSE, 4, known)}
break;
case ${tag(OWN_FIELDS, BYTES)}:${length('e')}p=own(b,dv,p,p+l,i);if(p<0)return -1;fl|=S.flags;an=S.answered;break;
default:p=skipField(b,p,e,t,wide);if(p<0)return -1;
}}
if(p!==e)return -1;
const table=ty===0?(isTcp||requestBytes===0&&code<0?3:0):TABLES[ty];
if(table!==${table})return table+1;

if(paL>0)putUrl(h_path,i,b,dv,paS,paL);
if(opL>0)putUrl(h_original,i,b,dv,opS,opL);
const k=4*i;
if(ridL!==36||!uuidInto(b,dv,ridS,c_requestUuid,i)){
c_requestUuid[k]=0;c_requestUuid[k+1]=0;c_requestUuid[k+2]=0;c_requestUuid[k+3]=0;
if(ridL>0)putText(h_request,i,b,dv,ridS,ridL)}
if(sidL>0&&sidL===ridL&&sameBytes(b,dv,sidS,ridS,sidL)){c_streamIsRequest[i]=1;
c_streamUuid[k]=0;c_streamUuid[k+1]=0;c_streamUuid[k+2]=0;c_streamUuid[k+3]=0}
else{c_streamIsRequest[i]=0;
if(sidL!==36||!uuidInto(b,dv,sidS,c_streamUuid,i)){
c_streamUuid[k]=0;c_streamUuid[k+1]=0;c_streamUuid[k+2]=0;c_streamUuid[k+3]=0;
if(sidL>0)putText(h_stream,i,b,dv,sidS,sidL)}}
if(mdL>0&&!putMetadata(h_metadata,i,b,mdS,mdL))return -1;
const peer_san=c_peer_san[i];
c_identity[i]=identities.code(stream,cl,S.downstreamPeer,S.upstreamPeer,peer_san,c_local_san[i],au,ro,c_sni[i]);
c_mutualTls[i]=peer_san!==0||c_peer_subject[i]!==0?1:0;
if(room.exhausted)return ${ROW_EXHAUSTED};

if(du<0){du=0;${POINT_VARIABLES.map((point) => `if(${point}>du)du=${point};`).join('')}}
if(stS<=0||stS>4290000000){c_endSeconds[i]=S.seconds;c_endNanos[i]=S.nanos;S.untimed++}
else{
if(du<1000000000){x=stN+du;if(x>=1000000000){x-=1000000000;stS++}}
else{s=Math.floor(du/1e9);x=stN+(du-s*1e9);stS+=s;if(x>=1000000000){x-=1000000000;stS++}}
c_endSeconds[i]=stS>4294967295?4294967295:stS;c_endNanos[i]=x}
const i2=i+i;c_received[i2]=S.msLow;c_received[i2+1]=S.msHigh;c_stream[i]=stream;c_entryType[i]=ty;c_method[i]=meth;c_protocol[i]=proto;c_attempts[i]=at;
${names.map((name) => `c_${name}[i]=${CODE_OF[name]};`).join('')}
${PORTS.map((name) => `c_${name}[i]=${PORT_OF[name]};`).join('')}
${countsWritten}
${POINT_VARIABLES.map((point) => `c_${point}[i]=${point};`).join('')}c_duration[i]=du;
o_request[i2]=m_request_headers.count;o_response[i2]=m_response_headers.count;o_trailers[i2]=m_response_trailers.count;o_tags[i2]=m_custom_tags.count;o_filter[i2]=m_filter_state.count;
const http=${table === 3 ? 'false' : '!isTcp&&(ty===0||ty>=4&&ty<=10||ty===15)'};
c_kind[i]=http?0:ty>=11&&ty<=13?2:1;
const details=d_response_code_details.act[de];
fl|=details&DETAILS_FLAGS;
const grpc=S.grpcTrailer>=0?S.grpcTrailer:S.grpcHeader;
if(code>65535)code=0;
${classified(table)}
c_flags[i]=fl;c_code[i]=code;c_grpcStatus[i]=grpc;
c_outcome[i]=classified>>3;c_responseClass[i]=classified&7;
C.rows=i+1;
return ${ROW_ADDED};
}`
  return { source, known }
}
