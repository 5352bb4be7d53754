// http-proxy calls util._extend, which prints a deprecation warning on the terminal. It is replaced by what it does, before
// the library is loaded; nothing else in this process uses it.

import util from 'node:util';

(util as unknown as { _extend: typeof Object.assign })._extend = Object.assign;
