import { formatFloat, isList, type PythonDict, type PythonValue } from '../demo-shared/python-json.js';
import { type ValidationProblem, validationError } from './api-error.js';
import type { Field, FieldType } from './generation-fields.js';

type Problem = Omit<ValidationProblem, 'loc'>;

const PROBLEMS: Readonly<Record<'str' | 'int' | 'float' | 'bool' | 'list' | 'dict' | 'none', Problem>> = {
  str: { msg: 'str type expected', type: 'type_error.str' },
  int: { msg: 'value is not a valid integer', type: 'type_error.integer' },
  float: { msg: 'value is not a valid float', type: 'type_error.float' },
  bool: { msg: 'value could not be parsed to a boolean', type: 'type_error.bool' },
  list: { msg: 'value is not a valid list', type: 'type_error.list' },
  dict: { msg: 'value is not a valid dict', type: 'type_error.dict' },
  none: { msg: 'none is not an allowed value', type: 'type_error.none.not_allowed' },
};

/** A value that its type does not take; `loc` leads to it from the value that was to be coerced. */
class Refusal {
  readonly problem: ValidationProblem;

  constructor(problem: Problem, loc: readonly PythonValue[] = []) {
    this.problem = { ...problem, loc };
  }
}

/**
 * Brings the fields of a body to their types as pydantic 1 does (`"20"` is an int, `7` a float) and fills in the
 * defaults. Keys that are no fields are left out. Throws a 422 `ApiError` that names every wrong field.
 */
export function validateFields(body: PythonDict, fields: readonly Field[]): Map<string, PythonValue> {
  const values = new Map<string, PythonValue>();
  const problems: ValidationProblem[] = [];
  for (const field of fields) {
    const given = body.get(field.name);
    const value = given === undefined ? field.initial : coerceField(given, field);
    if (value instanceof Refusal) {
      problems.push({ ...value.problem, loc: ['body', field.name, ...value.problem.loc] });
    } else {
      values.set(field.name, value);
    }
  }
  if (problems.length > 0) throw validationError(problems);
  return values;
}

/** The body as a dict; pydantic 1 takes `[]` and `""` for an empty one. Throws a 422 `ApiError`. */
export function requireDict(value: PythonValue): PythonDict {
  const dict = coerceDict(value);
  if (dict instanceof Refusal) throw validationError([{ ...dict.problem, loc: ['body'] }]);
  return dict;
}

function coerceField(value: PythonValue, { type, nullable }: Field): PythonValue | Refusal {
  if (value === null) return nullable ? null : new Refusal(PROBLEMS.none);
  return COERCIONS[type](value);
}

const COERCIONS: Readonly<Record<FieldType, (value: PythonValue) => PythonValue | Refusal>> = {
  str: coerceString,
  int: coerceInteger,
  float: coerceFloat,
  bool: coerceBoolean,
  dict: coerceDict,
  list: (value) => (isList(value) ? value : new Refusal(PROBLEMS.list)),
  'list[str]': coerceStrings,
};

function coerceString(value: PythonValue): string | Refusal {
  if (typeof value === 'string') return value;
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return formatFloat(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return new Refusal(PROBLEMS.str);
}

function coerceInteger(value: PythonValue): bigint | Refusal {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (typeof value === 'number' && Number.isFinite(value)) return BigInt(Math.trunc(value));
  const digits = typeof value === 'string' ? /^\s*([-+]?)(\d+)\s*$/.exec(value) : null;
  if (!digits) return new Refusal(PROBLEMS.int);
  const size = BigInt(digits[2] as string);
  return digits[1] === '-' ? -size : size;
}

function coerceFloat(value: PythonValue): number | Refusal {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
  const isNumber = typeof value === 'string' && /^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i.test(value);
  return isNumber ? Number(value) : new Refusal(PROBLEMS.float);
}

function coerceBoolean(value: PythonValue): boolean | Refusal {
  if (typeof value === 'boolean') return value;
  const word = typeof value === 'string' ? value.toLowerCase() : String(value);
  if (/^(1|on|t|true|y|yes)$/.test(word)) return true;
  if (/^(0|off|f|false|n|no)$/.test(word)) return false;
  return new Refusal(PROBLEMS.bool);
}

function coerceDict(value: PythonValue): PythonDict | Refusal {
  if (value instanceof Map) return value;
  const isEmpty = value === '' || (isList(value) && value.length === 0);
  return isEmpty ? new Map() : new Refusal(PROBLEMS.dict);
}

function coerceStrings(value: PythonValue): readonly PythonValue[] | Refusal {
  if (!isList(value)) return new Refusal(PROBLEMS.list);
  const strings: string[] = [];
  for (const [index, item] of value.entries()) {
    const string = item === null ? new Refusal(PROBLEMS.none) : coerceString(item);
    if (string instanceof Refusal) return new Refusal(string.problem, [BigInt(index)]);
    strings.push(string);
  }
  return strings;
}
