import type { PythonValue } from '../demo-shared/python-json.js';

export type FieldType = 'str' | 'int' | 'float' | 'bool' | 'list' | 'list[str]' | 'dict';

export interface Field {
  readonly name: string;
  readonly type: FieldType;
  /** Echoed as it is here where a request does not have the field; so a float may have an `int` for its default. */
  readonly initial: PythonValue;
  readonly nullable: boolean;
}

export type GenerationMode = 'txt2img' | 'img2img';

function optional(name: string, type: FieldType, initial: PythonValue = null): Field {
  return { name, type, initial, nullable: true };
}

function required(name: string, type: FieldType, initial: PythonValue): Field {
  return { name, type, initial, nullable: false };
}

const ADDED_FIELDS: readonly Field[] = [
  optional('script_name', 'str'),
  required('script_args', 'list', []),
  required('send_images', 'bool', true),
  required('save_images', 'bool', false),
  required('alwayson_scripts', 'dict', {}),
  optional('infotext', 'str'),
];

/** The fields of a generation request in the order in which A1111 1.10 echoes them as `parameters`. */
export const GENERATION_FIELDS: Readonly<Record<GenerationMode, readonly Field[]>> = {
  txt2img: [
    ...processingFields(optional('denoising_strength', 'float')),
    optional('enable_hr', 'bool', false),
    optional('firstphase_width', 'int', 0n),
    optional('firstphase_height', 'int', 0n),
    optional('hr_scale', 'float', 2),
    optional('hr_upscaler', 'str'),
    optional('hr_second_pass_steps', 'int', 0n),
    optional('hr_resize_x', 'int', 0n),
    optional('hr_resize_y', 'int', 0n),
    optional('hr_checkpoint_name', 'str'),
    optional('hr_sampler_name', 'str'),
    optional('hr_scheduler', 'str'),
    optional('hr_prompt', 'str', ''),
    optional('hr_negative_prompt', 'str', ''),
    optional('force_task_id', 'str'),
    required('sampler_index', 'str', 'Euler'),
    ...ADDED_FIELDS,
  ],
  img2img: [
    ...processingFields(required('denoising_strength', 'float', 0.75)),
    optional('init_images', 'list'),
    optional('resize_mode', 'int', 0n),
    optional('image_cfg_scale', 'float'),
    optional('mask', 'str'),
    optional('mask_blur_x', 'int', 4n),
    optional('mask_blur_y', 'int', 4n),
    optional('mask_blur', 'int'),
    optional('mask_round', 'bool', true),
    optional('inpainting_fill', 'int', 0n),
    optional('inpaint_full_res', 'bool', true),
    optional('inpaint_full_res_padding', 'int', 0n),
    optional('inpainting_mask_invert', 'int', 0n),
    optional('initial_noise_multiplier', 'float'),
    optional('latent_mask', 'str'),
    optional('force_task_id', 'str'),
    required('sampler_index', 'str', 'Euler'),
    required('include_init_images', 'bool', false),
    ...ADDED_FIELDS,
  ],
};

/** What both kinds of generation have. */
function processingFields(denoisingStrength: Field): readonly Field[] {
  return [
    optional('prompt', 'str', ''),
    optional('negative_prompt', 'str', ''),
    optional('styles', 'list[str]'),
    optional('seed', 'int', -1n),
    optional('subseed', 'int', -1n),
    optional('subseed_strength', 'float', 0n),
    optional('seed_resize_from_h', 'int', -1n),
    optional('seed_resize_from_w', 'int', -1n),
    optional('sampler_name', 'str'),
    optional('scheduler', 'str'),
    optional('batch_size', 'int', 1n),
    optional('n_iter', 'int', 1n),
    optional('steps', 'int', 50n),
    optional('cfg_scale', 'float', 7),
    optional('width', 'int', 512n),
    optional('height', 'int', 512n),
    optional('restore_faces', 'bool'),
    optional('tiling', 'bool'),
    optional('do_not_save_samples', 'bool', false),
    optional('do_not_save_grid', 'bool', false),
    optional('eta', 'float'),
    denoisingStrength,
    optional('s_min_uncond', 'float'),
    optional('s_churn', 'float'),
    optional('s_tmax', 'float'),
    optional('s_tmin', 'float'),
    optional('s_noise', 'float'),
    optional('override_settings', 'dict'),
    optional('override_settings_restore_afterwards', 'bool', true),
    optional('refiner_checkpoint', 'str'),
    optional('refiner_switch_at', 'float'),
    optional('disable_extra_networks', 'bool', false),
    optional('firstpass_image', 'str'),
    optional('comments', 'dict'),
  ];
}
